"""Calls a server as a user's Python program does, and prints what came as JSON."""

import json
import queue
import sys

import grpc
from google.protobuf import any_pb2, timestamp_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from windshift.events.v1alpha1 import events_pb2, events_pb2_grpc
from windshift.state.v1alpha1 import state_pb2, state_pb2_grpc
from windshift.test.v1 import test_pb2

TIMEOUT = 60


def text(value):
    packed = any_pb2.Any()
    packed.Pack(test_pb2.StringValue(value=value))
    return packed


def text_of(packed):
    message = test_pb2.StringValue()
    if not packed.Unpack(message):
        raise ValueError(f"expected a text, got {packed.type_url}")
    return message.value


def failure(call):
    """The status of a call that has to fail, with its details."""
    try:
        call()
    except grpc.RpcError as error:
        entry = {"code": error.code().name, "fields": []}
        for detail in rpc_status.from_call(error).details:
            info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
            if detail.Unpack(info):
                entry |= {"reason": info.reason, "domain": info.domain}
            elif detail.Unpack(bad_request):
                entry["fields"] = [violation.field for violation in bad_request.field_violations]
        return entry
    raise AssertionError("the call succeeded")


class Call:
    """An Events call whose requests are sent one by one."""

    def __init__(self, method):
        self._requests = queue.SimpleQueue()
        self.responses = method(iter(self._requests.get, None), timeout=TIMEOUT)

    def send(self, **request):
        self._requests.put(events_pb2.EventsRequest(**request))

    def close(self):
        self._requests.put(None)


def describe(event):
    headers = event.headers
    return {
        "id": str(event.id),
        "subject": event.subject,
        "type": event.data.TypeName(),
        "text": text_of(event.data),
        "attempt": str(event.delivery_attempt),
        "idempotency_key": headers.idempotency_key if headers.HasField("idempotency_key") else None,
        "seconds": str(headers.timestamp.seconds),
        "nanos": headers.timestamp.nanos,
    }


def confirmed(confirmation):
    return {
        "ids": [str(each) for each in confirmation.ids],
        "invalid_ids": [str(each) for each in confirmation.invalid_ids],
    }


def events(client, prefix, report, errors):
    subjects = events_pb2.EnsureStreamRequest.Subjects(subjects=[f"{prefix}.>"])
    client.EnsureStream(events_pb2.EnsureStreamRequest(name=prefix, subjects=subjects), timeout=TIMEOUT)
    client.EnsureConsumer(
        events_pb2.EnsureConsumerRequest(stream=prefix, name="billing", subjects=[f"{prefix}.>"]), timeout=TIMEOUT
    )

    request = events_pb2.PublishEventRequest(
        subject=f"{prefix}.created",
        data=text("hello from Python"),
        timestamp=timestamp_pb2.Timestamp(seconds=1767323045, nanos=6),
        idempotency_key="key-1",
    )
    report["published"] = str(client.PublishEvent(request, timeout=TIMEOUT).id)
    report["published_again"] = str(client.PublishEvent(request, timeout=TIMEOUT).id)
    old = events_pb2.PublishEventRequest(subject=f"{prefix}.created", data=text("by its old name"))
    report["published_by_old_name"] = str(client.Publish(old, timeout=TIMEOUT).id)
    unbound = events_pb2.PublishEventRequest(subject=f"nobody.{prefix}", data=text("x"))
    errors["unbound"] = failure(lambda: client.PublishEvent(unbound, timeout=TIMEOUT))

    call = Call(client.Events)
    call.send(subscribe={"stream": prefix, "consumer": "billing"})
    report["timeout_seconds"] = str(next(call.responses).subscribed.processing_timeout.seconds)
    first, second = next(call.responses).event, next(call.responses).event
    report["first"], report["second"] = describe(first), describe(second)
    call.send(ack={"ids": [first.id, 99]})
    report["acked"] = confirmed(next(call.responses).ack_confirmation)
    call.send(reject={"ids": [second.id]})
    # The rejected event may come again before its confirmation.
    for response in (next(call.responses), next(call.responses)):
        if response.HasField("event"):
            report["redelivered_attempt"] = str(response.event.delivery_attempt)
        else:
            report["rejected"] = confirmed(response.reject_confirmation)
    call.close()
    list(call.responses)
    report["ended"] = call.responses.code().name

    missing = Call(client.Consume)
    missing.send(subscribe={"stream": prefix, "consumer": "nobody"})
    errors["no_consumer"] = failure(lambda: next(missing.responses))
    missing.close()


def state(client, prefix, report, errors):
    def get():
        return client.Get(state_pb2.GetRequest(store=prefix, key="a.b"), timeout=TIMEOUT)

    def write(value, **condition):
        request = state_pb2.SetRequest(store=prefix, key="a.b", value=text(value), **condition)
        return client.Set(request, timeout=TIMEOUT)

    client.EnsureStore(state_pb2.EnsureStoreRequest(store=prefix), timeout=TIMEOUT)
    missing = get()
    report["missing_revision"] = str(missing.revision)
    report["missing_has_value"] = missing.HasField("value")
    revision = write("hello from Python", create_only=True).revision
    report["revision"], report["value"] = str(revision), text_of(get().value)
    report["next_revision"] = str(write("next", last_revision=revision).revision)
    errors["exists"] = failure(lambda: write("x", create_only=True))
    conditional = state_pb2.DeleteRequest(store=prefix, key="a.b", last_revision=0)
    errors["mismatch"] = failure(lambda: client.Delete(conditional, timeout=TIMEOUT))
    client.Delete(state_pb2.DeleteRequest(store=prefix, key="a.b"), timeout=TIMEOUT)
    report["deleted_revision"] = str(get().revision)
    errors["bad_name"] = failure(lambda: client.Get(state_pb2.GetRequest(store="a b", key="a"), timeout=TIMEOUT))


def open_channel(address, trusted=None):
    """Over TLS with a certificate to trust, in a file; or in plain text."""
    if trusted is None:
        return grpc.insecure_channel(address)
    with open(trusted, "rb") as file:
        return grpc.secure_channel(address, grpc.ssl_channel_credentials(file.read()))


def main():
    address, prefix, *trusted = sys.argv[1:]
    report, errors = {}, {}
    with open_channel(address, *trusted) as channel:
        events(events_pb2_grpc.EventsServiceStub(channel), prefix, report, errors)
        state(state_pb2_grpc.StateServiceStub(channel), prefix, report, errors)
    print(json.dumps(report | {"errors": errors}))


main()
