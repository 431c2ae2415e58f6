"""A line with a delay each way, which counts the round trips that pass over it.

Goes in: a port to listen at, where to connect to, and the delay. Comes out: bytes, later; on
SIGTERM, a JSON line with the connections and their round trips. A round trip is a flight of bytes
from the client that follows an answer to an earlier one.
"""

import asyncio
import json
import signal
import sys

CHUNK = 64 * 1024


class Line:
    """One connection."""

    def __init__(self) -> None:
        self.round_trips = 0
        self.answered = True

    def from_client(self) -> None:
        if self.answered:
            self.round_trips += 1
        self.answered = False

    def from_server(self) -> None:
        self.answered = True


async def carry(reader, writer, delay, seen) -> None:
    """Bytes leave as long after their arrival as the delay says, and in their order."""
    waiting: asyncio.Queue = asyncio.Queue(maxsize=10_000)
    loop = asyncio.get_running_loop()

    async def leave() -> None:
        while True:
            due, data = await waiting.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                break
            writer.write(data)
            await writer.drain()
        if writer.can_write_eof():
            writer.write_eof()

    leaving = asyncio.create_task(leave())
    try:
        while True:
            data = await reader.read(CHUNK)
            if data:
                seen()
            await waiting.put((loop.time() + delay, data))
            if not data:
                break
        await leaving
    except OSError:
        leaving.cancel()


async def main() -> None:
    port, address, delay = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    lines: list[Line] = []

    async def serve(reader, writer) -> None:
        line = Line()
        # A connection is a round trip before its first byte.
        line.round_trips = 1
        lines.append(line)
        await asyncio.sleep(2 * delay)
        far_reader, far_writer = await asyncio.open_connection(address, 22)
        try:
            await asyncio.gather(
                carry(reader, far_writer, delay, line.from_client),
                carry(far_reader, writer, delay, line.from_server),
            )
        except asyncio.CancelledError:
            # The measurement is over.
            pass
        finally:
            writer.close()
            far_writer.close()

    server = await asyncio.start_server(serve, "0.0.0.0", port)
    ended = asyncio.Event()

    def tell() -> None:
        counts = [line.round_trips for line in lines]
        print(json.dumps({"connections": len(counts), "round_trips": sum(counts)}), flush=True)

    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, tell)
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    print("ready", flush=True)
    await ended.wait()
    server.close()


asyncio.run(main())
