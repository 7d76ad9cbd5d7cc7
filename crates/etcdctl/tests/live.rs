//! Commands that go on until something happens: watches, locks, elections, mirrors; and snapshots. Each against our server.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::process::Stdio;

use common::{Addresses, Kind, Server};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

struct Cluster {
    endpoint: String,
    server: Server,
}

impl Cluster {
    async fn start() -> Self {
        let addresses = Addresses::free();
        let server = addresses.start(&Kind::Ours).await;
        Self { endpoint: addresses.client, server }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_etcdctl"));
        command.args(["--endpoints", &self.endpoint]).args(words);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Its exit code and both outputs.
    async fn ends(&self, line: &str) -> (Option<i32>, String, String) {
        self.words(&line.split(' ').collect::<Vec<_>>()).await
    }

    async fn words(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let output = self.command(words).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    async fn ok(&self, line: &str) -> String {
        let (code, out, err) = self.ends(line).await;
        assert_eq!((code, err.as_str()), (Some(0), ""), "{line}");
        out
    }

    fn goes_on(&self, words: &[&str]) -> Running {
        let mut child = self.command(words).spawn().unwrap();
        let (input, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Running { child, input, lines: BufReader::new(out).lines() }
    }
}

/// A command that is running.
struct Running {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Running {
    async fn shows(&mut self, expected: &[&str]) {
        for line in expected {
            assert_eq!(self.lines.next_line().await.unwrap().as_deref(), Some(*line));
        }
    }

    async fn line(&mut self) -> String {
        self.lines.next_line().await.unwrap().unwrap()
    }

    async fn types(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).await.unwrap();
    }

    /// As Ctrl-C does; its exit code.
    async fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().await.unwrap().success());
        self.child.wait().await.unwrap().code()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches() {
    let cluster = Cluster::start().await;
    cluster.ok("put k 1").await;
    cluster.ok("put k 2").await;
    let mut watch = cluster.goes_on(&["watch", "k", "--rev=2", "--prev-kv"]);
    watch.shows(&["PUT", "k", "1", "PUT", "k", "1", "k", "2"]).await;
    cluster.ok("del k").await;
    watch.shows(&["DELETE", "k", "2", "k", ""]).await;
    // Each event runs the program.
    let mut watch =
        cluster.goes_on(&["watch", "k", "--rev=2", "--", "sh", "-c", "echo $ETCD_WATCH_EVENT_TYPE $ETCD_WATCH_KEY $ETCD_WATCH_VALUE"]);
    watch
        .shows(&[
            "PUT",
            "k",
            "1",
            "PUT",
            "k",
            "2",
            "DELETE",
            "k",
            "",
            "\"PUT\" \"k\" \"1\"",
            "\"PUT\" \"k\" \"2\"",
            "\"DELETE\" \"k\" \"\"",
        ])
        .await;
    let (code, _, err) = cluster.words(&["watch", "k", "--rev=2", "--", "false"]).await;
    assert_eq!((code, err.as_str()), (Some(1), "command [\"false\"] error (exit status 1)\n"));
    // Lines from standard input.
    let mut watch = cluster.goes_on(&["watch", "-i"]);
    watch.types("watch k --rev 4\n").await;
    watch.shows(&["DELETE", "k", ""]).await;
    watch.types("nonsense\nprogress\n").await;
    watch.shows(&["progress notify: 4"]).await;
    drop(watch.input);
    let output = watch.child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("Invalid command nonsense (only support watch)\n"));
    // What is compacted cannot be watched.
    cluster.ok("compaction 4").await;
    let (code, out, err) = cluster.ends("watch k --rev=2").await;
    let expected = "watch was canceled (etcdserver: mvcc: required revision has been compacted)\nError: watch is canceled by the server\n";
    assert_eq!((code, out.as_str(), err.as_str()), (Some(5), "", expected));
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks() {
    let cluster = Cluster::start().await;
    let (code, out, err) = cluster.words(&["lock", "job", "--", "sh", "-c", "echo $ETCD_LOCK_KEY; exit 7"]).await;
    assert!(code == Some(7) && out.starts_with("job/") && err == "Error: exit status 7\n", "{code:?} {out} {err}");
    assert_eq!(cluster.ok("get job/ --prefix").await, "", "the lock is free again");
    let mut first = cluster.goes_on(&["lock", "job"]);
    let key = first.line().await;
    assert!(key.starts_with("job/"), "{key}");
    first.shows(&[""]).await;
    let mut second = cluster.goes_on(&["lock", "job"]);
    // It waits: its key is there before it has the lock.
    let mut keys = cluster.goes_on(&["watch", "job/", "--prefix", "--rev=2"]);
    while keys.line().await != "PUT" || keys.line().await == key {}
    assert_eq!(first.interrupt().await, Some(0));
    let other = second.line().await;
    assert!(other.starts_with("job/") && other != key, "{other}");
    assert_eq!(second.interrupt().await, Some(0));
    assert_eq!(cluster.ok("get job/ --prefix").await, "");
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn elections() {
    let cluster = Cluster::start().await;
    let mut observer = cluster.goes_on(&["elect", "-l", "office"]);
    let mut leader = cluster.goes_on(&["elect", "office", "me"]);
    let key = leader.line().await;
    leader.shows(&["me"]).await;
    observer.shows(&[&key, "me"]).await;
    cluster.ok(&format!("put {key} still-me --ignore-lease")).await;
    observer.shows(&[&key, "still-me"]).await;
    assert_eq!(leader.interrupt().await, Some(0));
    let mut next = cluster.goes_on(&["elect", "office", "you"]);
    let key = next.line().await;
    observer.shows(&[&key, "you"]).await;
    assert_eq!(observer.interrupt().await, Some(0));
    cluster.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors() {
    let (source, target) = (Cluster::start().await, Cluster::start().await);
    source.ok("put a/1 x").await;
    source.ok("put other x").await;
    let _mirror = source.goes_on(&["make-mirror", "--prefix", "a/", "--dest-prefix", "b/", &target.endpoint]);
    let mut copy = target.goes_on(&["watch", "b/", "--prefix", "--rev=1"]);
    copy.shows(&["PUT", "b/1", "x"]).await;
    source.ok("put a/2 y").await;
    source.ok("del a/1").await;
    copy.shows(&["PUT", "b/2", "y", "DELETE", "b/1", ""]).await;
    assert_eq!(target.ok("get --from-key a").await, "b/2\ny\n");
    source.server.stop().await;
    target.server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots() {
    let cluster = Cluster::start().await;
    cluster.ok("put a 1").await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file.db");
    let path = path.to_str().unwrap();
    assert_eq!(cluster.ok(&format!("snapshot save {path}")).await, format!("Snapshot saved at {path}\n"));
    assert!(!dir.path().join("file.db.part").exists());
    let (code, status, _) = cluster.ends(&format!("snapshot status {path} -w json")).await;
    assert!(code == Some(0) && status.contains("\"revision\":2,"), "{status}");
    // The file's checksum is the server's.
    let link = dir.path().join("etcdutl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_etcdctl"), &link).unwrap();
    let hashed = Command::new(&link).args(["hashkv", path]).output().await.unwrap();
    let hash = String::from_utf8(hashed.stdout).unwrap().split(", ").next().unwrap().to_owned();
    assert_eq!(cluster.ok("endpoint hashkv").await, format!("{}, {hash}\n", cluster.endpoint));
    let restored = dir.path().join("restored");
    let restored = restored.to_str().unwrap();
    let (code, ..) = cluster.ends(&format!("snapshot restore {path} --data-dir {restored}")).await;
    assert_eq!(code, Some(0));
    let (code, _, err) = cluster.ends(&format!("snapshot restore {path} --data-dir {restored}")).await;
    assert!(code == Some(1) && err.contains("not empty"), "{err}");
    let (code, _, err) = cluster.ends("snapshot save /nope/file.db").await;
    assert!(code == Some(5) && err.contains("could not open /nope/file.db.part"), "{err}");
    cluster.server.stop().await;
}
