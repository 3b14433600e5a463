"""A task hub by others, in front of our functions.

Serves the in-memory backend of PyPI `durabletask` and carries its work items to
a custom handler as the Functions host would. That backend speaks the newer
entity events; the Durable extension speaks messages named `op`. The bridge
translates between the two and decides nothing.

usage: bridge.py PORT HANDLER_URL
"""

import base64
import json
import sys
import threading
import urllib.request

import grpc
from durabletask.internal import orchestrator_service_pb2 as pb
from durabletask.internal import orchestrator_service_pb2_grpc as stubs
from durabletask.testing import create_test_backend
from google.protobuf import wrappers_pb2


def text(value):
    return wrappers_pb2.StringValue(value=value)


def invoke(handler, function, request):
    """Posts as the host does; returns the bytes of ReturnValue."""
    context = json.dumps(base64.b64encode(request.SerializeToString()).decode())
    body = json.dumps({"Data": {"context": context}, "Metadata": {}}).encode()
    call = urllib.request.Request(f"{handler}/{function}", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(call) as answer:
        return base64.b64decode(json.load(answer)["ReturnValue"])


def to_messages(event):
    """A history event in the extension's form."""
    kind = event.WhichOneof("eventType")
    out = pb.HistoryEvent(eventId=event.eventId, timestamp=event.timestamp)
    if kind == "entityOperationCalled":
        called = event.entityOperationCalled
        sent = {"op": called.operation, "signal": False, "input": called.input.value, "id": called.requestId}
        out.eventSent.CopyFrom(
            pb.EventSentEvent(instanceId=called.targetInstanceId.value, name="op", input=text(json.dumps(sent)))
        )
    elif kind == "entityOperationCompleted":
        done = event.entityOperationCompleted
        answer = {"result": done.output.value if done.HasField("output") else None}
        out.eventRaised.CopyFrom(pb.EventRaisedEvent(name=done.requestId, input=text(json.dumps(answer))))
    elif kind == "entityOperationFailed":
        failed = event.entityOperationFailed
        why = failed.failureDetails
        answer = {
            "exceptionType": why.errorMessage,
            "failureDetails": {"ErrorType": why.errorType, "ErrorMessage": why.errorMessage},
        }
        out.eventRaised.CopyFrom(pb.EventRaisedEvent(name=failed.requestId, input=text(json.dumps(answer))))
    else:
        out.CopyFrom(event)
    return out


def from_messages(action):
    """An action in the backend's form."""
    if action.WhichOneof("orchestratorActionType") != "sendEvent":
        return action
    sent = json.loads(action.sendEvent.data.value)
    called = pb.EntityOperationCalledEvent(
        requestId=sent["id"],
        operation=sent["op"],
        input=text(sent["input"]),
        parentInstanceId=text(sent["parent"]),
        parentExecutionId=text(sent.get("parentExecution", "")),
        targetInstanceId=text(action.sendEvent.instance.instanceId),
    )
    return pb.OrchestratorAction(
        id=action.id, sendEntityMessage=pb.SendEntityMessageAction(entityOperationCalled=called)
    )


def orchestrate(stub, handler, item):
    request = item.orchestratorRequest
    carried = pb.OrchestratorRequest(
        instanceId=request.instanceId,
        pastEvents=map(to_messages, request.pastEvents),
        newEvents=map(to_messages, request.newEvents),
    )
    answer = pb.OrchestratorResponse.FromString(invoke(handler, "orchestrator", carried))
    stub.CompleteOrchestratorTask(
        pb.OrchestratorResponse(
            instanceId=answer.instanceId,
            actions=map(from_messages, answer.actions),
            completionToken=item.completionToken,
        )
    )


def operate(stub, handler, item):
    request = item.entityRequestV2
    batch = pb.EntityBatchRequest(instanceId=request.instanceId)
    if request.HasField("entityState"):
        batch.entityState.CopyFrom(request.entityState)
    infos = []
    for event in request.operationRequests:
        operation = getattr(event, event.WhichOneof("eventType"))
        one = batch.operations.add(operation=operation.operation, requestId=operation.requestId)
        if operation.HasField("input"):
            one.input.CopyFrom(operation.input)
        info = pb.OperationInfo(requestId=operation.requestId)
        if event.HasField("entityOperationCalled"):
            info.responseDestination.instanceId = operation.parentInstanceId.value
        infos.append(info)
    result = pb.EntityBatchResult.FromString(invoke(handler, "entity_state", batch))
    assert len(result.results) == len(infos), "one result an operation"
    result.completionToken = item.completionToken
    result.operationInfos.extend(infos)
    stub.CompleteEntityTask(result)


def main():
    port, handler = int(sys.argv[1]), sys.argv[2]
    create_test_backend(port=port)
    stub = stubs.TaskHubSidecarServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    # Ends with the one who started it.
    threading.Thread(target=lambda: (sys.stdin.read(), __import__("os")._exit(0)), daemon=True).start()
    print("ready", flush=True)
    for item in stub.GetWorkItems(pb.GetWorkItemsRequest()):
        kind = item.WhichOneof("request")
        {"orchestratorRequest": orchestrate, "entityRequestV2": operate}[kind](stub, handler, item)


if __name__ == "__main__":
    main()
