"""Reads a trace with Perfetto's own message definitions: prints its tracks and what is on them."""

import json
import sys

from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos

trace = protos.Trace()
trace.ParseFromString(open(sys.argv[1], "rb").read())
tracks, counters, slices, instants = {}, {}, {}, []
for packet in trace.packet:
    if packet.HasField("track_descriptor"):
        track = packet.track_descriptor
        assert track.uuid not in tracks
        assert track.parent_uuid == 0 or track.parent_uuid in tracks
        tracks[track.uuid] = track
        continue
    event = packet.track_event
    track = tracks[event.track_uuid]
    kind = protos.TrackEvent.Type.Name(event.type)
    if kind == "TYPE_COUNTER":
        assert track.counter.unit == protos.CounterDescriptor.UNIT_SIZE_BYTES
        counters.setdefault(track.name, []).append((packet.timestamp, event.counter_value))
    elif kind == "TYPE_INSTANT":
        instants.append((packet.timestamp, event.name))
    else:
        events = slices.setdefault(track.thread.thread_name, [])
        events.append((packet.timestamp, kind, event.name))
for events in slices.values():
    depth = 0
    for _, kind, _ in events:
        depth += 1 if kind == "TYPE_SLICE_BEGIN" else -1
        assert depth >= 0
    assert depth == 0
    assert [time for time, _, _ in events] == sorted(time for time, _, _ in events)
process = next(track.process for track in tracks.values() if track.HasField("process"))
answer = {
    "process": [process.pid, process.process_name, list(process.cmdline)],
    "threads": [
        [track.thread.tid, track.thread.thread_name]
        for track in tracks.values() if track.HasField("thread")
    ],
    "peaks": {name: max(value for _, value in values) for name, values in counters.items()},
    "ends": {name: values[-1][1] for name, values in counters.items()},
    "slices": {
        thread: [name for _, kind, name in events if kind == "TYPE_SLICE_BEGIN"]
        for thread, events in slices.items()
    },
    "instants": instants,
}
print(json.dumps(answer))
