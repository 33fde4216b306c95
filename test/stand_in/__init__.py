"""A stand-in of the Tencent Cloud Live API, for the demo and the tests.

It answers the screenshot-task actions, and those of templates, over HTTPS as the real API would, as strictly as the
documentation allows to be, and breaks in every way a network and a service can break, on demand.  It
shares no code with the extension: what both agree on was written twice.

    bytes     connection     a socket, TLS on top of it, and the kernel's time of each read
    requests  http1, http2   bytes to Requests; an Exchange (exchange) puts the answer on the wire
    arrival   network        what the network was ordered to do to the request on its way
    verdict   api            the rules, in the API's order: signature, limit, parameters
    fault     faults         what was ordered to go wrong with this connection or request
              sts            what the Security Token Service says
    effect    ledger         tasks and templates: the only thing that a request changes

Everything runs in one thread.  A request is first judged by the rules alone; that changes nothing.  Then
a fault may be found for it.  Only then does the verdict take effect, unless the fault spoils the answer
and does not say `create`.  So a task is in the ledger if and only if the API "made" it, whatever the
client was told.

The limit is judged by the time at which the kernel received the last byte of a request, so that a
busy machine, which runs this process late, accuses nobody; later, if the network was ordered to be slow.  The kernel merges what arrives on one
connection before it is read, and keeps the time of the last byte; therefore the loop reads all sockets
before each single thing it does.  A request that other bytes were read with, be they another request's or
of no request at all, counts as "perhaps as early as" the last time at which its connection was seen to
have nothing to read.

With --metadata it is also the metadata service of a machine, which hands out temporary credentials of its
role: accounts that the API has from then on.

It is the Security Token Service too, at the same address: an account may assume a role (sts).

In DIR: `ca.pem`, for the client; `port`, once it listens; `ledger`, `requests`, JSON lines, written here;
`orders`, JSON lines, written by tests.  --help lists the faults.
"""
