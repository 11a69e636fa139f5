"""Checks a file by speedscope's own schema: prints what each profile adds up to."""

import json
import sys

import jsonschema

schema_path, path = sys.argv[1:]
schema = json.load(open(schema_path))
profiles = json.load(open(path))
jsonschema.validate(profiles, schema)
frames = len(profiles["shared"]["frames"])
answer = {}
for profile in profiles["profiles"]:
    assert len(profile["samples"]) == len(profile["weights"])
    assert all(frame < frames for sample in profile["samples"] for frame in sample)
    assert profile["endValue"] == sum(profile["weights"])
    answer[profile["name"]] = profile["endValue"]
print(json.dumps(answer))
