//! Clusters of real processes: each member in a network namespace of its own, TLS everywhere, and ways to hurt them. Needs root. All of it goes with the
//! value.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use clap::Parser;
use etcd::pb::maintenance_client::MaintenanceClient;
use etcd::{Dial, EtcdKv, EtcdTls, Options, Server, pb};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tempfile::TempDir;

/// Where the flags of a member's process are.
const FLAGS: &str = "OXI_TEST_MEMBER";
/// How long a state may take to come.
const PATIENCE: Duration = Duration::from_secs(60);
static COUNT: AtomicU32 = AtomicU32::new(0);

#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    options: Options,
}

/// What the process of a member runs; nothing in the process of the tests.
pub fn run_member() {
    let Ok(flags) = std::env::var(FLAGS) else { return };
    base::logging::init(1);
    let options = Line::parse_from(flags.lines()).options;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ended = runtime.block_on(async {
        let tasks = base::Tasks::new();
        let server = Server::init(options, &tasks).await?;
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).unwrap();
        let stop = tasks.clone();
        tokio::spawn(async move {
            terminate.recv().await;
            stop.stop();
        });
        let failed = tasks.clone();
        tokio::select! {
            ended = server.run(tasks) => ended,
            // The log says why.
            () = failed.failed() => std::process::exit(1),
        }
    });
    if let Err(error) = &ended {
        eprintln!("Error: {error}");
    }
    // Not the test harness's exit code.
    std::process::exit(i32::from(ended.is_err()));
}

fn ip(arguments: &str) {
    let mut words = arguments.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Namespaces on one bridge: members have 10.77.0.1 and so on, the test 10.77.0.254.
struct Net {
    name: String,
    members: usize,
}

impl Net {
    fn new(members: usize) -> Self {
        assert!(rustix::process::geteuid().is_root(), "tests with network namespaces need root");
        let name = format!("oxi-e{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let net = Self { name, members };
        let hub = &net.name;
        ip(&format!("ip netns add {hub}"));
        ip(&format!("ip -n {hub} link set lo up"));
        ip(&format!("ip -n {hub} link add br0 type bridge"));
        ip(&format!("ip -n {hub} address add 10.77.0.254/24 dev br0"));
        ip(&format!("ip -n {hub} link set br0 up"));
        for n in 1..=members {
            let member = net.of(n);
            ip(&format!("ip netns add {member}"));
            ip(&format!("ip -n {member} link set lo up"));
            ip(&format!("ip -n {hub} link add v{n} type veth peer name eth0 netns {member}"));
            ip(&format!("ip -n {hub} link set v{n} master br0 up"));
            ip(&format!("ip -n {member} address add 10.77.0.{n}/24 dev eth0"));
            ip(&format!("ip -n {member} link set eth0 up"));
        }
        net
    }

    fn of(&self, n: usize) -> String {
        format!("{}m{n}", self.name)
    }

    /// This thread, and all that it starts, live on the bridge.
    fn enter(&self) {
        let file = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for n in 1..=self.members {
            let _ = Command::new("ip").args(["netns", "delete", &self.of(n)]).status();
        }
        let _ = Command::new("ip").args(["netns", "delete", &self.name]).status();
    }
}

pub struct Cluster {
    net: Net,
    pub dir: TempDir,
    members: BTreeMap<usize, Child>,
    is_real: bool,
    /// More flags for each member.
    pub flags: Vec<String>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for n in self.members.keys().copied().collect::<Vec<_>>() {
            self.kill(n);
        }
        if std::thread::panicking() {
            for n in 1..=self.net.members {
                let log = std::fs::read_to_string(self.log(n)).unwrap_or_default();
                let lines: Vec<_> = log.lines().collect();
                eprintln!("--- the end of the log of m{n}:\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
            }
        }
    }
}

/// Runs a test with room for `members` members, on a thread of their network.
pub fn with_cluster<F>(members: usize, test: impl FnOnce(Cluster) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    with(members, false, test);
}

/// The same with Debian's etcd.
pub fn with_real<F>(members: usize, test: impl FnOnce(Cluster) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    with(members, true, test);
}

fn with<F>(members: usize, is_real: bool, test: impl FnOnce(Cluster) -> F + Send + 'static)
where
    F: Future<Output = ()>,
{
    let thread = std::thread::spawn(move || {
        let net = Net::new(members);
        net.enter();
        let dir = tempfile::tempdir().unwrap();
        certificates(dir.path(), members);
        let cluster = Cluster { net, dir, members: BTreeMap::new(), is_real, flags: Vec::new() };
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test(cluster));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn certificates(dir: &Path, members: usize) {
    let now = base::clock::now();
    let authority = pki::Authority::create("etcd-ca", now).unwrap();
    let addresses = (1..=members).map(|n| format!("10.77.0.{n}").parse().unwrap());
    let leaf =
        pki::Leaf { client: true, ..pki::Leaf::server("member", Vec::new(), addresses.chain(["127.0.0.1".parse().unwrap()]).collect()) };
    let (cert, key) = authority.issue(&leaf, now).unwrap();
    let files = [("ca.crt", authority.certificate_pem), ("member.crt", cert), ("member.key", key.to_pem())];
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
}

impl Cluster {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    pub fn data(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("data{n}"))
    }

    pub fn log(&self, n: usize) -> PathBuf {
        self.dir.path().join(format!("m{n}.log"))
    }

    pub fn log_text(&self, n: usize) -> String {
        std::fs::read_to_string(self.log(n)).unwrap_or_default()
    }

    pub fn client_url(n: usize) -> String {
        format!("https://10.77.0.{n}:2379")
    }

    pub fn peer_url(n: usize) -> String {
        format!("https://10.77.0.{n}:2380")
    }

    pub fn initial_cluster(members: &[usize]) -> String {
        members.iter().map(|n| format!("m{n}={}", Self::peer_url(*n))).collect::<Vec<_>>().join(",")
    }

    /// Starts a member, which may have data.
    pub fn start(&mut self, n: usize, initial: &[usize], state: &str) {
        self.start_with(n, &Self::initial_cluster(initial), state, &[]);
    }

    pub fn start_with(&mut self, n: usize, initial_cluster: &str, state: &str, more: &[&str]) {
        let (client, peer) = (Self::client_url(n), Self::peer_url(n));
        let mut flags = vec![
            format!("--name=m{n}"),
            format!("--data-dir={}", self.data(n).display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={initial_cluster}"),
            format!("--initial-cluster-state={state}"),
        ];
        for side in ["--", "--peer-"] {
            flags.push(format!("{side}cert-file={}", self.path("member.crt")));
            flags.push(format!("{side}key-file={}", self.path("member.key")));
            flags.push(format!("{side}trusted-ca-file={}", self.path("ca.crt")));
            flags.push(format!("{side}client-cert-auth=true"));
        }
        flags.extend(self.flags.iter().cloned());
        flags.extend(more.iter().map(|flag| (*flag).to_owned()));
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log(n)).unwrap();
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.net.of(n)]);
        if self.is_real {
            command.arg("etcd").args(&flags);
        } else {
            command
                .arg(std::env::current_exe().unwrap())
                .args(["member_process", "--exact", "--ignored", "--nocapture"])
                .env(FLAGS, flags.join("\n"));
        }
        let child = command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        assert!(self.members.insert(n, child).is_none(), "m{n} runs already");
    }

    /// Starts the first members and waits until they serve.
    pub async fn start_all(&mut self, members: &[usize]) {
        for n in members {
            self.start(*n, members, "new");
        }
        self.wait_ready(members).await;
    }

    /// kill -9
    pub fn kill(&mut self, n: usize) {
        let mut child = self.members.remove(&n).unwrap();
        let _ = child.kill();
        let _ = child.wait();
    }

    /// SIGTERM, and its end.
    pub async fn stop(&mut self, n: usize) {
        let pid = rustix::process::Pid::from_child(&self.members[&n]);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert_eq!(self.exit_code(n).await, Some(0), "m{n} stops cleanly");
    }

    /// Waits for a member that ends by itself.
    pub async fn exit_code(&mut self, n: usize) -> Option<i32> {
        let mut child = self.members.remove(&n).unwrap();
        let status = until(&format!("the end of m{n}"), async || child.try_wait().unwrap().ok_or("it still runs")).await;
        status.code()
    }

    pub fn wipe(&self, n: usize) {
        std::fs::remove_dir_all(self.data(n)).unwrap();
    }

    pub fn tls(&self) -> EtcdTls {
        let path = |name: &str| self.dir.path().join(name);
        EtcdTls { ca_file: path("ca.crt"), cert_file: Some(path("member.crt")), key_file: Some(path("member.key")) }
    }

    /// A client of these members.
    pub fn client(&self, members: &[usize]) -> EtcdKv {
        let endpoints: Vec<_> = members.iter().map(|n| Self::client_url(*n)).collect();
        EtcdKv::connect(&endpoints, Some(&self.tls()), &base::Tasks::new()).unwrap()
    }

    pub async fn status(&self, n: usize) -> Result<pb::StatusResponse, String> {
        let dial = Dial { search: Duration::from_millis(500), ..Dial::default() };
        let tls = self.tls().connector().map_err(|error| error.to_string())?;
        let transport =
            etcd::Transport::new(&[Self::client_url(n)], Some(&tls), &dial, &base::Tasks::new()).map_err(|error| error.to_string())?;
        let answer = tokio::time::timeout(Duration::from_secs(5), MaintenanceClient::new(transport).status(pb::StatusRequest {})).await;
        answer.map_err(|_| "no answer".to_owned())?.map(tonic::Response::into_inner).map_err(|status| status.to_string())
    }

    /// Until these members follow one leader, and have applied what was committed when they were asked.
    pub async fn wait_ready(&self, members: &[usize]) -> usize {
        until("one leader", async || {
            let mut leaders = Vec::new();
            let mut newest = 0;
            for n in members {
                let status = self.status(*n).await.map_err(|error| format!("m{n}: {error}"))?;
                newest = newest.max(status.raft_index);
                if status.raft_applied_index < newest.min(status.raft_index) || !status.errors.is_empty() {
                    return Err(format!("m{n}: {status:?}"));
                }
                let own = status.header.as_ref().unwrap().member_id;
                leaders.push((status.leader, (own == status.leader).then_some(*n)));
            }
            let leader = leaders.iter().find_map(|(_, leader)| *leader);
            let one = leaders.iter().all(|(leader, _)| *leader != 0 && *leader == leaders[0].0);
            leader.filter(|_| one).ok_or_else(|| format!("{leaders:?}"))
        })
        .await
    }

    /// Cuts a member off from others in the given directions; clients reach it still.
    pub fn cut(&self, n: usize, others: &[usize]) {
        let addresses = others.iter().map(|n| format!("10.77.0.{n}")).collect::<Vec<_>>().join(", ");
        let rules = format!(
            "table ip oxi {{\nchain in {{\ntype filter hook input priority 0;\nip saddr {{ {addresses} }} drop;\n}}\n\
             chain out {{\ntype filter hook output priority 0;\nip daddr {{ {addresses} }} drop;\n}}\n}}\n"
        );
        let file = self.dir.path().join(format!("cut{n}.nft"));
        std::fs::write(&file, rules).unwrap();
        ip(&format!("ip netns exec {} nft -f {}", self.net.of(n), file.display()));
    }

    pub fn heal(&self, n: usize) {
        ip(&format!("ip netns exec {} nft delete table ip oxi", self.net.of(n)));
    }

    /// etcdctl against these members: whether it succeeded, and what it said.
    pub async fn try_ctl(&self, members: &[usize], line: &str) -> (bool, String) {
        let endpoints = members.iter().map(|n| Self::client_url(*n)).collect::<Vec<_>>().join(",");
        let (ca, cert, key) = (self.path("ca.crt"), self.path("member.crt"), self.path("member.key"));
        let mut arguments = vec!["--endpoints", &endpoints, "--cacert", &ca, "--cert", &cert, "--key", &key];
        arguments.extend(line.split_whitespace());
        super::try_run("etcdctl", &arguments, &[("ETCDCTL_API", "3")], None).await
    }

    /// A change of the membership: refused as long as members have not been connected for a while.
    pub async fn change(&self, members: &[usize], line: &str) -> String {
        until(line, async || {
            let (ok, text) = self.try_ctl(members, line).await;
            assert!(ok || text.contains("etcdserver: unhealthy cluster"), "etcdctl {line}: {text}");
            if ok { Ok(text) } else { Err(text) }
        })
        .await
    }

    pub async fn ctl(&self, members: &[usize], line: &str) -> String {
        let (ok, text) = self.try_ctl(members, line).await;
        assert!(ok, "etcdctl {line}: {text}");
        text
    }
}

/// Asks again until it is so.
pub async fn until<T, E: std::fmt::Display>(what: &str, mut check: impl AsyncFnMut() -> Result<T, E>) -> T {
    let give_up = base::clock::monotonic() + PATIENCE;
    loop {
        match check().await {
            Ok(value) => return value,
            Err(error) if base::clock::monotonic() > give_up => panic!("{what}: not so, the last was: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}
