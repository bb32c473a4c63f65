// Calls a server as a user's Go program does, and prints what came as JSON.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	eventsv1alpha1 "windshift.dev/gen/windshift/events/v1alpha1"
	statev1alpha1 "windshift.dev/gen/windshift/state/v1alpha1"
	testv1 "windshift.dev/gen/windshift/test/v1"
)

type object = map[string]any

func main() {
	address, prefix := os.Args[1], os.Args[2]
	connection := must(grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials())))
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	report := object{}
	events(ctx, eventsv1alpha1.NewEventsServiceClient(connection), prefix, report)
	state(ctx, statev1alpha1.NewStateServiceClient(connection), prefix, report)
	check(json.NewEncoder(os.Stdout).Encode(report))
}

func events(ctx context.Context, client eventsv1alpha1.EventsServiceClient, prefix string, report object) {
	must(client.EnsureStream(ctx, &eventsv1alpha1.EnsureStreamRequest{
		Name: prefix,
		Source: &eventsv1alpha1.EnsureStreamRequest_Subjects_{
			Subjects: &eventsv1alpha1.EnsureStreamRequest_Subjects{Subjects: []string{prefix + ".>"}},
		},
	}))
	must(client.EnsureConsumer(ctx, &eventsv1alpha1.EnsureConsumerRequest{
		Stream: prefix, Name: proto.String("billing"), Subjects: []string{prefix + ".>"},
	}))

	request := &eventsv1alpha1.PublishEventRequest{
		Subject:        prefix + ".created",
		Data:           text("hello from Go"),
		Timestamp:      &timestamppb.Timestamp{Seconds: 1767323045, Nanos: 6},
		IdempotencyKey: proto.String("key-1"),
	}
	report["published"] = number(must(client.PublishEvent(ctx, request)).Id)
	report["published_again"] = number(must(client.PublishEvent(ctx, request)).Id)
	old := &eventsv1alpha1.PublishEventRequest{Subject: prefix + ".created", Data: text("by its old name")}
	report["published_by_old_name"] = number(must(client.Publish(ctx, old)).Id)
	_, err := client.PublishEvent(ctx, &eventsv1alpha1.PublishEventRequest{Subject: "nobody." + prefix, Data: text("x")})
	fail(report, "unbound", err)

	call := must(client.Events(ctx))
	check(call.Send(subscribe(prefix, "billing")))
	report["timeout_seconds"] = strconv.FormatInt(receive(call).GetSubscribed().ProcessingTimeout.Seconds, 10)
	first, second := receive(call).GetEvent(), receive(call).GetEvent()
	report["first"], report["second"] = describe(first), describe(second)
	check(call.Send(&eventsv1alpha1.EventsRequest{Request: &eventsv1alpha1.EventsRequest_Ack_{
		Ack: &eventsv1alpha1.EventsRequest_Ack{Ids: []uint64{first.Id, 99}},
	}}))
	acked := receive(call).GetAckConfirmation()
	report["acked"] = object{"ids": numbers(acked.Ids), "invalid_ids": numbers(acked.InvalidIds)}
	check(call.Send(&eventsv1alpha1.EventsRequest{Request: &eventsv1alpha1.EventsRequest_Reject_{
		Reject: &eventsv1alpha1.EventsRequest_Reject{Ids: []uint64{second.Id}},
	}}))
	// The rejected event may come again before its confirmation.
	for range 2 {
		response := receive(call)
		if event := response.GetEvent(); event != nil {
			report["redelivered_attempt"] = number(event.DeliveryAttempt)
		} else {
			rejected := response.GetRejectConfirmation()
			report["rejected"] = object{"ids": numbers(rejected.Ids), "invalid_ids": numbers(rejected.InvalidIds)}
		}
	}
	check(call.CloseSend())
	if _, err := call.Recv(); err == io.EOF {
		report["ended"] = "OK"
	} else {
		report["ended"] = fmt.Sprint(err)
	}

	missing := must(client.Consume(ctx))
	check(missing.Send(subscribe(prefix, "nobody")))
	_, err = missing.Recv()
	fail(report, "no_consumer", err)
}

func state(ctx context.Context, client statev1alpha1.StateServiceClient, prefix string, report object) {
	must(client.EnsureStore(ctx, &statev1alpha1.EnsureStoreRequest{Store: prefix}))
	get := func() *statev1alpha1.GetResponse {
		return must(client.Get(ctx, &statev1alpha1.GetRequest{Store: prefix, Key: "a.b"}))
	}
	missing := get()
	report["missing_revision"], report["missing_has_value"] = number(missing.Revision), missing.Value != nil
	set := must(client.Set(ctx, &statev1alpha1.SetRequest{
		Store: prefix, Key: "a.b", Value: text("hello from Go"), CreateOnly: proto.Bool(true),
	}))
	report["revision"], report["value"] = number(set.Revision), textOf(get().Value)
	next := must(client.Set(ctx, &statev1alpha1.SetRequest{
		Store: prefix, Key: "a.b", Value: text("next"), LastRevision: proto.Uint64(set.Revision),
	}))
	report["next_revision"] = number(next.Revision)
	_, err := client.Set(ctx, &statev1alpha1.SetRequest{
		Store: prefix, Key: "a.b", Value: text("x"), CreateOnly: proto.Bool(true),
	})
	fail(report, "exists", err)
	_, err = client.Delete(ctx, &statev1alpha1.DeleteRequest{Store: prefix, Key: "a.b", LastRevision: proto.Uint64(0)})
	fail(report, "mismatch", err)
	must(client.Delete(ctx, &statev1alpha1.DeleteRequest{Store: prefix, Key: "a.b"}))
	report["deleted_revision"] = number(get().Revision)
	_, err = client.Get(ctx, &statev1alpha1.GetRequest{Store: "a b", Key: "a"})
	fail(report, "bad_name", err)
}

func subscribe(stream, consumer string) *eventsv1alpha1.EventsRequest {
	return &eventsv1alpha1.EventsRequest{Request: &eventsv1alpha1.EventsRequest_Subscribe_{
		Subscribe: &eventsv1alpha1.EventsRequest_Subscribe{Stream: stream, Consumer: consumer},
	}}
}

func receive(call eventsv1alpha1.EventsService_EventsClient) *eventsv1alpha1.EventsResponse {
	return must(call.Recv())
}

func describe(event *eventsv1alpha1.Event) object {
	return object{
		"id": number(event.Id), "subject": event.Subject, "type": string(event.Data.MessageName()), "text": textOf(event.Data),
		"attempt": number(event.DeliveryAttempt), "idempotency_key": event.Headers.IdempotencyKey,
		"seconds": strconv.FormatInt(event.Headers.Timestamp.Seconds, 10), "nanos": event.Headers.Timestamp.Nanos,
	}
}

// fail reports a status with its details.
func fail(report object, name string, err error) {
	found := status.Convert(err)
	entry := object{"code": constant(found.Code().String()), "fields": []string{}}
	for _, detail := range found.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			entry["reason"], entry["domain"] = detail.Reason, detail.Domain
		case *errdetails.BadRequest:
			for _, violation := range detail.FieldViolations {
				entry["fields"] = append(entry["fields"].([]string), violation.Field)
			}
		}
	}
	if report["errors"] == nil {
		report["errors"] = object{}
	}
	report["errors"].(object)[name] = entry
}

// constant turns Go's name of a code, NotFound, into gRPC's, NOT_FOUND.
func constant(name string) string {
	var result strings.Builder
	for i, letter := range name {
		if i > 0 && unicode.IsUpper(letter) {
			result.WriteByte('_')
		}
		result.WriteRune(unicode.ToUpper(letter))
	}
	return result.String()
}

func text(value string) *anypb.Any { return must(anypb.New(&testv1.StringValue{Value: value})) }

func textOf(value *anypb.Any) string {
	message := &testv1.StringValue{}
	check(value.UnmarshalTo(message))
	return message.Value
}

func number(value uint64) string { return strconv.FormatUint(value, 10) }

func numbers(values []uint64) []string {
	result := []string{}
	for _, value := range values {
		result = append(result, number(value))
	}
	return result
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
