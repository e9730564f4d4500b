"""How the processes of one host talk: typed messages, codecs without I/O, and thin clients and servers.

Conversations, each versioned, each in JSON, none of them trusting the other side's size or speed:

``control``   soniqctl and the master, over a unix socket: requests and responses, one line each; an answer that has
              no end comes in many lines (``stream``).
``fork``      the master and a fork server, over a SOCK_SEQPACKET pair: one packet a message, descriptors beside it.
``link``      the master and a child, over a SOCK_STREAM pair: one line a message. Its end of file is the death pipe:
              a child whose master is gone drains and leaves.

Log lines that somebody follows go over the *tap*, a datagram socket from all children to the master: each datagram is
one line, as JSON, and what does not fit is lost and counted (:mod:`soniqd.log.mirror`, :mod:`soniqd.supervisor.tap`).

What has to be known of a process that answers no more is in ``memory``: a few words and the jobs that run, in memory
that both sides map, and a black box for stack dumps. Nothing there is a message; nobody waits for it.

A master that makes room for the next image of itself leaves its state as ``plain`` JSON in sealed memory (``reexec``).
"""
