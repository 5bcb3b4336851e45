"""Dialogs: nothing that changes the desk happens without one."""
