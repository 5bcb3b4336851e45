"""The paper broker: a simulated exchange, the link to it, and a synthetic market.

    SyntheticSource --tick--> PaperExchange <--request-- PaperLink <-- PaperAccount (AccountManager)
          |                        |    \\--event--> PaperLink --> the account's sink
          +--tick--> sinks         +--> BookFile

`exchange.py` is pure and synchronous; `link.py` is everything that can go wrong on the way to it;
`account.py` and `market_data.py` are the ports; `faults.py` lets an operator ask for trouble.
"""
