"""The examples of python-etcd3's documentation, against a server: etcd3_examples.py HOST PORT."""
import os
os.environ.setdefault("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "python")
import sys
import tempfile
import threading
import etcd3

client = etcd3.client(host=sys.argv[1], port=int(sys.argv[2]))

# Whatever an earlier run left.
client.delete_prefix("/")

# Keys.
client.put("/key", "dooot")
value, meta = client.get("/key")
assert value == b"dooot" and meta.key == b"/key" and meta.version == 1, (value, meta)
for n in range(3):
    client.put(f"/keys/{n}", str(n))
assert [value for value, _ in client.get_prefix("/keys/", sort_order="descend")] == [b"2", b"1", b"0"]
assert [meta.key for _, meta in client.get_range("/keys/0", "/keys/2")] == [b"/keys/0", b"/keys/1"]
assert client.replace("/key", "dooot", "new") and not client.replace("/key", "dooot", "newer")
assert client.put_if_not_exists("/once", "a") and not client.put_if_not_exists("/once", "b")
assert client.delete("/once") and not client.delete("/once")
assert client.delete_prefix("/keys/").deleted == 3

# Transactions.
done, answers = client.transaction(
    compare=[client.transactions.value("/key") == "new", client.transactions.version("/key") > 0],
    success=[client.transactions.put("/key", "success"), client.transactions.get("/key")],
    failure=[client.transactions.put("/key", "failure")],
)
assert done and answers[1][0][0] == b"success", answers

# Watches.
seen = []
ready = threading.Event()
def each(response):
    seen.extend((type(event).__name__, event.key, event.value) for event in response.events)
    if len(seen) == 2:
        ready.set()
watch = client.add_watch_callback("/watched", each)
client.put("/watched", "1")
client.delete("/watched")
assert ready.wait(10), seen
assert seen == [("PutEvent", b"/watched", b"1"), ("DeleteEvent", b"/watched", b"")], seen
client.cancel_watch(watch)
events, cancel = client.watch_prefix("/iterated/", start_revision=client.get("/key")[1].mod_revision)
client.put("/iterated/a", "x")
assert next(events).value == b"x"
cancel()

# Leases and locks.
lease = client.lease(60)
client.put("/leased", "l", lease=lease)
assert lease.remaining_ttl > 50 and lease.granted_ttl == 60 and list(lease.keys) == [b"/leased"]
lease.refresh()
lease.revoke()
assert client.get("/leased") == (None, None)
with client.lock("doot-machine", ttl=20) as lock:
    assert lock.is_acquired()
    other = client.lock("doot-machine", ttl=20)
    assert not other.acquire(timeout=1)
assert other.acquire(timeout=5) and other.release()

# The cluster.
members = list(client.members)
assert len(members) >= 1 and members[0].name
status = client.status()
assert status.version.startswith("3.") and status.leader is not None and status.db_size > 0
assert isinstance(client.hash(), int)
assert list(client.list_alarms()) == []
assert [alarm.alarm_type for alarm in client.create_alarm()] and list(client.list_alarms())
client.disarm_alarm()
assert list(client.list_alarms()) == []
with tempfile.NamedTemporaryFile() as file:
    client.snapshot(file)
    assert file.tell() > 0
client.compact(client.get("/key")[1].mod_revision, physical=True)
client.defragment()
print("python etcd3: all examples pass")
