"""What an operator does by hand. Risk-raising deeds are recorded before they happen, risk-lowering ones happen."""
