"""Calls of grpc.testing.TestService by grpcio, for recordings: python grpcio-client.py PORT CASE."""

import sys
import threading

import grpc

SERVICE = "/grpc.testing.TestService/"
TIMEOUT_S = 3600


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out) + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def nested(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def payload(field, size):
    return nested(field, nested(2, bytes(size)))


def outputs(*sizes):
    """StreamingOutputCallRequest: a response of each of these sizes."""
    return b"".join(nested(2, number(1, size)) for size in sizes)


def simple(size, request_size):
    """SimpleRequest."""
    return number(2, size) + payload(3, request_size)


def status(code, message):
    """The field of both requests that asks for a status."""
    return nested(7, number(1, code) + nested(2, message.encode()))


def failed(call):
    try:
        list(call)
    except grpc.RpcError:
        return
    raise AssertionError("it should have failed")


def metadata(channel):
    pairs = (("x-grpc-test-echo-initial", "value"), ("x-grpc-test-echo-trailing-bin", b"\x00\xab\xff\n"))
    channel.unary_unary(SERVICE + "UnaryCall")(simple(10, 20), metadata=pairs, timeout=TIMEOUT_S)
    call = channel.stream_stream(SERVICE + "FullDuplexCall")(iter([outputs(3)]), metadata=pairs)
    assert len(list(call)) == 1
    for several in ((("x-text", "a"), ("x-text", "b")), (("x-bytes-bin", b"\x00\x01"), ("x-bytes-bin", b"\x02"))):
        channel.unary_unary(SERVICE + "EmptyCall")(b"", metadata=several)


def padded_metadata(channel):
    channel.unary_unary(SERVICE + "EmptyCall")(b"", metadata=(("x-text", " padded "),))


def unary_calls(channel):
    unary = channel.unary_unary(SERVICE + "UnaryCall")
    for size in (0, 10, 1000, 20_000, 100_000):
        unary(simple(size, size), timeout=TIMEOUT_S)
    for future in [unary.future(simple(size, 100), timeout=TIMEOUT_S) for size in range(20)]:
        future.result()


def compression(channel):
    unary = channel.unary_unary(SERVICE + "UnaryCall")
    stream = channel.stream_unary(SERVICE + "StreamingInputCall")
    for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        for size in (0, 1000, 100_000):
            unary(simple(7, size), compression=algorithm)
        stream((payload(1, size) for size in (0, 10, 50_000)), compression=algorithm)


def streaming(channel):
    assert len(list(channel.unary_stream(SERVICE + "StreamingOutputCall")(outputs(0, 1, 70_000, 5)))) == 4
    channel.stream_unary(SERVICE + "StreamingInputCall")(payload(1, size) for size in (27_182, 8, 0, 45_904))
    channel.stream_unary(SERVICE + "StreamingInputCall")(iter([]))


def ping_pong(channel):
    sizes = iter((31_415, 9, 2_653, 58_979))
    call = channel.stream_stream(SERVICE + "FullDuplexCall")(outputs(size) for size in sizes)
    assert len(list(call)) == 4


def statuses(channel):
    text = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈, 100%\t\n"
    for code, message in ((2, "test status message"), (2, text), (5, "")):
        failed(channel.unary_stream(SERVICE + "UnaryCall")(status(code, message)))
        failed(channel.stream_stream(SERVICE + "FullDuplexCall")(iter([outputs(4) + status(code, message)])))
    failed(channel.unary_stream(SERVICE + "UnimplementedCall")(b""))
    failed(channel.unary_stream("/grpc.testing.UnimplementedService/UnimplementedCall")(b""))


def cancel(channel):
    is_over = threading.Event()

    def requests():
        yield outputs(31_415)
        is_over.wait()

    call = channel.stream_stream(SERVICE + "FullDuplexCall")(requests())
    next(call)
    call.cancel()
    is_over.set()
    channel.unary_unary(SERVICE + "EmptyCall")(b"")


CASES = {
    case.__name__: case
    for case in (metadata, padded_metadata, unary_calls, compression, streaming, ping_pong, statuses, cancel)
}

if __name__ == "__main__":
    port, name = sys.argv[1:]
    with grpc.insecure_channel(f"127.0.0.1:{port}") as opened:
        CASES[name](opened)
