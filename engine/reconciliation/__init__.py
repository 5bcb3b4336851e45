"""Flow 4, reconciliation. Is the broker still telling us the same thing?

The broker wins, always, on evidence that is fresh, complete and taken after our last event settled; the same
difference has to be seen twice. Reconciliation corrects belief and never places an order.
"""
