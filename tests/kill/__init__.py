"""The kill test: the real engine, and its database server, killed at random moments while it trades.

`make kill-test DB=sqlite KILLS=100` and `make kill-test DB=postgres KILLS=60`, with `SEED=n` for other moments. The
exchange (the truth) is a process of its own that is never killed. It ends with one line of JSON and exit code 0, or 1
when anything was lost, doubled or left different.

A round starts the desk unless it runs, waits for its first order to reach the exchange, waits up to 1.5 s more, and
strikes. On SQLite every strike is a SIGKILL to the engine. On PostgreSQL the rounds rotate through: the engine; the
server and its children (SIGKILL); the engine; the server at once (SIGQUIT), the engine too; the server frozen (SIGSTOP)
and let go; the server frozen and the engine killed meanwhile. A desk that was not killed must trade again by itself.
At the end one more desk, which decides nothing, comes back, falls quiet, and is stopped; then everything is compared.

What counts as acknowledged (`acknowledged` is their number), each told by one side to another as done:

  requests     every submit, cancel and replace that reached the exchange, from the exchange's own file, written on
               arrival: the desk may send only what is durable in the database or the intent journal
  executions   every execution in the exchange's book: what the broker did is true whatever we were told of it
  rows         every intent, order event and fill that a reader of the database saw committed at any strike

  lost         an acknowledged request, execution or row without its row at the end; an order at the exchange that the
               database says was never sent, is lost or refused; an order believed live that the exchange does not have
  duplicates   two requests or two orders of one client id; two orders of one (session, candle, leg) alive at once; an
               order with more booked than was executed; a round trip or its profit counted otherwise than the fills say
  disagreements_left
               position, average price, working orders and their terms, cumulative fills and final states that differ;
               a position that working stops do not cover; orders still in doubt; open disagreements; a fill of ours
               taken for somebody else's doing; jobs not done
  integrity    SQLite: PRAGMA integrity_check and foreign_key_check; PostgreSQL: amcheck (verify_heapam on each table,
               bt_index_check with heapallindexed on each index), or a full read of each table where it is missing

`check.py` and what it reads with share no code with engine or brokers.
"""
