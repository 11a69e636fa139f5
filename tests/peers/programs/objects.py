"""What a Python program does to its heap: objects, strings, dictionaries, JSON, regular expressions."""
import json
import re
import sys
import zlib

count = int(sys.argv[1])
state = 1


def below(bound):
    global state
    state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return (state >> 33) % bound


class Order:
    def __init__(self, number):
        self.number = number
        self.lines = [("item-%d" % below(5000), 1 + below(9)) for _ in range(1 + below(8))]
        self.notes = {"to": "customer %d" % below(2000), "text": "x" * below(200)}


total = 0
orders = {}
for number in range(count):
    orders[number] = Order(number)
    if number >= 2000 and below(2) == 0:
        gone = orders.pop(below(number), None)
        total += len(gone.lines) if gone else 0

rows = [{"number": o.number, "lines": o.lines, "notes": o.notes} for o in orders.values()]
text = json.dumps(rows)
again = json.loads(text)
words = re.sub(r"item-(\d+)", lambda found: "article " + found.group(1), text).split()
words.sort(key=lambda word: (len(word), word))
joined = " ".join(words)
table = bytearray()
for row in again:
    table += repr(row).encode()
print(total, len(again), zlib.crc32(joined.encode()), zlib.crc32(table))
