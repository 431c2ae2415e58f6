"""A line with a delay each way, which counts the round trips that pass over it.

Goes in: a port to listen at, where to connect to, and the delay. Comes out: bytes, later; on
SIGUSR1, a JSON line with the connections and their round trips. Invariant: nothing passes sooner
than it would over a wire of that length, the connection itself included.

A round trip is a flight from the client, and an answer that the server cannot have given before
that flight was there: both ends have a Lamport clock, which the client's flights carry over and
advance, and the server's answers carry back. What nobody answers, such as the end of a session
that is said after all was heard, is none; what an answer brings is one, whether or not anybody
waits for it.
"""

import asyncio
import json
import signal
import sys

CHUNK = 64 * 1024


class Line:
    """One connection, which the client knows after one round trip, and the server after a half."""

    def __init__(self) -> None:
        self.client = 1
        self.server = 2

    def reaches_server(self, sent: int) -> None:
        self.server = max(self.server, sent + 1)

    def reaches_client(self, sent: int) -> None:
        self.client = max(self.client, sent)


async def read(reader, waiting, earliest, delay, clock) -> None:
    """Notes of all bytes when they are due, and what their sender knew."""
    loop = asyncio.get_running_loop()
    data = b"begin"
    while data:
        data = await reader.read(CHUNK)
        await waiting.put((max(loop.time(), earliest) + delay, clock(), data))


async def write(waiting, writer, reaches) -> None:
    """Lets bytes leave when they are due, in their order."""
    loop = asyncio.get_running_loop()
    while True:
        due, sent, data = await waiting.get()
        await asyncio.sleep(max(0.0, due - loop.time()))
        if not data:
            break
        reaches(sent)
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


async def serve(reader, writer, address: str, delay: float, line: Line) -> None:
    begun = asyncio.get_running_loop().time()
    to_server: asyncio.Queue = asyncio.Queue(maxsize=10_000)
    to_client: asyncio.Queue = asyncio.Queue(maxsize=10_000)
    # To a client that is connected to this line at once, its first words wait for a round trip.
    known = begun + 2 * delay
    hearing = asyncio.create_task(read(reader, to_server, known, delay, lambda: line.client))
    # A server sees a connection when the third packet of its handshake is there.
    await asyncio.sleep(3 * delay)
    far_reader, far_writer = await asyncio.open_connection(address, 22)
    try:
        await asyncio.gather(
            hearing,
            write(to_server, far_writer, line.reaches_server),
            read(far_reader, to_client, 0.0, delay, lambda: line.server),
            write(to_client, writer, line.reaches_client),
        )
    except (OSError, asyncio.CancelledError):
        # One end is gone, or the measurement is over.
        pass
    finally:
        hearing.cancel()
        writer.close()
        far_writer.close()


async def main() -> None:
    port, address, delay = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    lines: list[Line] = []

    async def connected(reader, writer) -> None:
        lines.append(Line())
        await serve(reader, writer, address, delay, lines[-1])

    server = await asyncio.start_server(connected, "0.0.0.0", port)
    ended = asyncio.Event()

    def tell() -> None:
        counts = [line.client for line in lines]
        print(json.dumps({"connections": len(counts), "round_trips": sum(counts)}), flush=True)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, tell)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    server.close()


asyncio.run(main())
