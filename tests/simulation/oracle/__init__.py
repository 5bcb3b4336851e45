"""What must hold, whatever happens; imports nothing of the engine but its value types.

The truth is the exchange's book, the requests as they arrive there, and the database's durable content. What the
engine claims comes as values (mind.py), taken by probe.py. Where each invariant is checked:

requests.py    I1 I2 (and what a name may be) I11 I14 I16 (entries) I20 (no unlinked target beside a stop) I22 I23 I26
               I27 I32 I33 I42 (protection lasts, a strategy's cancel of its stop), rule 4, sizes of replaces
sending.py     I15 (used once ever) I17 (gap) I19 (prompt) I34, and the gate's own rules by name: deadline and how far
               off it may lie, fresh data, confirmed lease, limits, an adopted difference, an exit beside one in
               doubt (protocol, rule 9), a stop beside one in doubt (rule 7), the age of the equity, cancels that
               were heard, marks of missed exits; by which prices a stop is armed or left (rule 7), and by which read
day.py         entries a day, what the day has won, the daily loss, the entry window, flat by
verdicts.py    I26 (who waits for fills is live) I12 (no end without proof, LOST by time) I19 (no exit refused by what
               holds entries back) I30 (LOST and "not found" by complete answers, differences by settled ones), one
               candidate only (rule 8), I10 (the difference that was seen is adopted, with its price, and after orders
               were asked for), I5 (adopted terms are the order's)
weight.py      I21 (the gap floor, too) I23 (what a contribution weighs at least; by the formula when requests leave)
               I22 (room for an entry, release well under the block) I32 (counted, and by their larger side;
               positions that nobody trades)
duties.py      I18 I26 (a cancel that a life before asked for, fills since its oldest open order) I33 (a life that
               begins killed), doubts are asked about and fills fetched (rule 5), I30 (a line that is back is asked),
               the journal settles, the alarm of a full disk, the mark, missed exits
wishes.py      I19 (who wants out leaves, and enters no further), a flatten stands
closing.py     exits that add up, protection sized whole ("resize") and armed once (rule 7), room that is made is used
               (I19 part), I26 (who waits for fills is listed; what was being replaced is in doubt in the next life),
               a flatten goes on
exposure.py    I9 I20 I43
candles.py     I15 I16 I17, candles are as the market made them
standing.py    I8 I13 (wanted cancels, too) I21 I23 I37 I41 I42 I43
agreement.py   I4 I5 (and how orders ended) I6 I31 I44
audit.py       I4 (the newest row is the newest, and follows from its fill) I10 I12 (rows in their order, too) I18 I25
               I28 I29 I40 (profits by the fills, too)
I34            rivals.py brings the second engine
I7             agreement.py: duplicate and reordered events are among the faults, and M = D = B is exact
I19            standing.py: receipts of exits
I24            requests.py: an entry finds every member reported in this life; standing.py: since its session began
I30            agreement.py and audit.py: the query faults are on, and every adoption equals a true change
I35, I36       no text leaves the process here: tests/console and tests/unit (redaction, cleaning)
I38            no real time here: tests/flows/test_host_thread.py
I39            drawing is the console's: tests/console
I45            coverage.py
"""
