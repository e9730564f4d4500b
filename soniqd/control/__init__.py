"""How the processes of one host talk: typed messages, codecs without I/O, and thin clients and servers.

Three conversations, each versioned, each in JSON, none of them trusting the other side's size or speed:

``control``   soniqctl and the master, over a unix socket: requests and responses, one line each.
``fork``      the master and a fork server, over a SOCK_SEQPACKET pair: one packet a message, descriptors beside it.
``link``      the master and a child, over a SOCK_STREAM pair: one line a message. Its end of file is the death pipe:
              a child whose master is gone drains and leaves.
"""
