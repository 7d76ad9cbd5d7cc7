//! Users, roles and permissions: the same script on a real etcd and on ours must get the same answers, codes and texts. Then what etcd 3.4 does not have or
//! does wrong: signed tokens, certificates' names, its later advisories.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fmt::Debug;
use std::time::Duration;

use common::{OurEtcd, RealEtcd};
use etcd::{Options, pb};
use pb::auth_client::AuthClient;
use pb::authpb::permission::Type;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

/// What an answer was, without what differs from server to server.
type Said = Result<String, (Code, String)>;

#[derive(Clone)]
struct Client {
    channel: Channel,
    token: Option<String>,
}

impl Client {
    async fn new(endpoint: &str) -> Self {
        let channel = Channel::from_shared(endpoint.to_owned()).unwrap().connect().await.unwrap();
        Self { channel, token: None }
    }

    fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("token", token.parse().unwrap());
        }
        request
    }

    fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    async fn log_in(&self, name: &str, password: &str) -> Result<Self, Status> {
        let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
        Ok(self.with(&self.auth().authenticate(request).await?.into_inner().token))
    }

    /// Carries out a line of a script. `USER:PASSWORD>` in front says as whom, `=TOKEN>` with which token.
    async fn say(&self, line: &str) -> Said {
        let (client, line) = match line.split_once('>') {
            None => (self.clone(), line),
            Some((who, line)) => match who.split_once(':') {
                Some((user, password)) => match self.log_in(user, password).await {
                    Ok(client) => (client, line),
                    Err(status) => return Err((status.code(), format!("login: {}", status.message()))),
                },
                None => (self.with(who.trim_start_matches('=')), line),
            },
        };
        client.command(&line.split(' ').collect::<Vec<_>>()).await
    }

    async fn command(&self, words: &[&str]) -> Said {
        let text = |word: &str| if word == "''" { String::new() } else { word.to_owned() };
        let mut auth = self.auth();
        let mut kv = KvClient::new(self.channel.clone());
        let mut lease = LeaseClient::new(self.channel.clone());
        let mut maintenance = MaintenanceClient::new(self.channel.clone());
        match words {
            ["enable"] => said(auth.auth_enable(self.request(pb::AuthEnableRequest {})).await, |_| ()),
            ["disable"] => said(auth.auth_disable(self.request(pb::AuthDisableRequest {})).await, |_| ()),
            ["login", user, password] => {
                let request = pb::AuthenticateRequest { name: text(user), password: text(password) };
                said(auth.authenticate(request).await, |answer| answer.token.is_empty())
            }
            ["user", "add", name, password] => {
                let request = pb::AuthUserAddRequest { name: text(name), password: text(password), ..Default::default() };
                said(auth.user_add(self.request(request)).await, |_| ())
            }
            ["user", "certify", name] => {
                let options = Some(pb::authpb::UserAddOptions { no_password: true });
                let request = pb::AuthUserAddRequest { name: text(name), options, ..Default::default() };
                said(auth.user_add(self.request(request)).await, |_| ())
            }
            ["user", "delete", name] => said(auth.user_delete(self.request(pb::AuthUserDeleteRequest { name: text(name) })).await, |_| ()),
            ["user", "get", name] => {
                said(auth.user_get(self.request(pb::AuthUserGetRequest { name: text(name) })).await, |answer| answer.roles)
            }
            ["user", "list"] => said(auth.user_list(self.request(pb::AuthUserListRequest {})).await, |answer| answer.users),
            ["user", "passwd", name, password] => {
                let request = pb::AuthUserChangePasswordRequest { name: text(name), password: text(password), ..Default::default() };
                said(auth.user_change_password(self.request(request)).await, |_| ())
            }
            ["user", "grant", user, role] => {
                let request = pb::AuthUserGrantRoleRequest { user: text(user), role: text(role) };
                said(auth.user_grant_role(self.request(request)).await, |_| ())
            }
            ["user", "revoke", name, role] => {
                let request = pb::AuthUserRevokeRoleRequest { name: text(name), role: text(role) };
                said(auth.user_revoke_role(self.request(request)).await, |_| ())
            }
            ["role", "add", name] => said(auth.role_add(self.request(pb::AuthRoleAddRequest { name: text(name) })).await, |_| ()),
            ["role", "delete", role] => said(auth.role_delete(self.request(pb::AuthRoleDeleteRequest { role: text(role) })).await, |_| ()),
            ["role", "get", role] => {
                said(auth.role_get(self.request(pb::AuthRoleGetRequest { role: text(role) })).await, |answer| answer.perm)
            }
            ["role", "list"] => said(auth.role_list(self.request(pb::AuthRoleListRequest {})).await, |answer| answer.roles),
            ["role", "grant", role, kind, rest @ ..] => {
                let (key, range_end) = range(rest);
                let perm_type = match *kind {
                    "read" => Type::Read,
                    "write" => Type::Write,
                    _ => Type::Readwrite,
                };
                let perm = Some(pb::authpb::Permission { perm_type: perm_type.into(), key, range_end });
                said(auth.role_grant_permission(self.request(pb::AuthRoleGrantPermissionRequest { name: text(role), perm })).await, |_| ())
            }
            ["role", "revoke", role, rest @ ..] => {
                let (key, range_end) = range(rest);
                let request = pb::AuthRoleRevokePermissionRequest { role: text(role), key, range_end };
                said(auth.role_revoke_permission(self.request(request)).await, |_| ())
            }
            ["get", rest @ ..] => {
                let (key, range_end) = range(rest);
                said(kv.range(self.request(pb::RangeRequest { key, range_end, ..Default::default() })).await, |answer| answer.kvs)
            }
            ["put", key, options @ ..] => said(kv.put(self.request(put(key, options))).await, |answer| answer.prev_kv),
            ["del", rest @ ..] => {
                let prev_kv = rest.last() == Some(&"prev");
                let (key, range_end) = range(rest.strip_suffix(&["prev"]).unwrap_or(rest));
                said(kv.delete_range(self.request(pb::DeleteRangeRequest { key, range_end, prev_kv })).await, |answer| answer.deleted)
            }
            // A transaction of one operation in its success branch, or behind a compare.
            ["txn", "if", key, "then", rest @ ..] => {
                let compare = vec![pb::Compare { key: text(key).into(), target: 1, result: 3, ..Default::default() }];
                let txn = pb::TxnRequest { compare, failure: vec![op(rest)], ..Default::default() };
                said(kv.txn(self.request(txn)).await, |answer| answer.succeeded)
            }
            ["txn", "nested", rest @ ..] => {
                let inner = pb::TxnRequest { failure: vec![op(rest)], ..Default::default() };
                let nested = pb::RequestOp { request: Some(pb::request_op::Request::RequestTxn(inner)) };
                said(kv.txn(self.request(pb::TxnRequest { success: vec![nested], ..Default::default() })).await, |answer| answer.succeeded)
            }
            ["txn", rest @ ..] => {
                let txn = pb::TxnRequest { success: vec![op(rest)], ..Default::default() };
                said(kv.txn(self.request(txn)).await, |answer| answer.succeeded)
            }
            ["compact", revision] => {
                let request = pb::CompactionRequest { revision: revision.parse().unwrap(), physical: false };
                said(kv.compact(self.request(request)).await, |_| ())
            }
            ["watch", rest @ ..] => {
                let (key, range_end) = range(rest);
                self.watch(pb::WatchCreateRequest { key, range_end, ..Default::default() }).await
            }
            ["lease", "grant", id] => {
                let request = pb::LeaseGrantRequest { ttl: 1000, id: id.parse().unwrap() };
                said(lease.lease_grant(self.request(request)).await, |answer| answer.id)
            }
            ["lease", "revoke", id] => {
                said(lease.lease_revoke(self.request(pb::LeaseRevokeRequest { id: id.parse().unwrap() })).await, |_| ())
            }
            ["lease", "keys", id] => {
                let request = pb::LeaseTimeToLiveRequest { id: id.parse().unwrap(), keys: true };
                said(lease.lease_time_to_live(self.request(request)).await, |answer| answer.keys)
            }
            ["lease", "time", id] => {
                let request = pb::LeaseTimeToLiveRequest { id: id.parse().unwrap(), keys: false };
                said(lease.lease_time_to_live(self.request(request)).await, |answer| answer.granted_ttl)
            }
            ["lease", "list"] => said(lease.lease_leases(self.request(pb::LeaseLeasesRequest {})).await, |answer| answer.leases.len()),
            ["lease", "renew", id] => {
                let request = tokio_stream::once(pb::LeaseKeepAliveRequest { id: id.parse().unwrap() });
                let answer = match lease.lease_keep_alive(self.request(request)).await {
                    Ok(stream) => stream.into_inner().message().await.map(|answer| Response::new(answer.expect("an answer"))),
                    Err(status) => Err(status),
                };
                said(answer, |answer| answer.ttl)
            }
            ["defrag"] => said(maintenance.defragment(self.request(pb::DefragmentRequest {})).await, |_| ()),
            ["hashkv"] => said(maintenance.hash_kv(self.request(pb::HashKvRequest { revision: 0 })).await, |_| ()),
            ["status"] => said(maintenance.status(self.request(pb::StatusRequest {})).await, |_| ()),
            ["alarm", action] => {
                let request = pb::AlarmRequest { action: action.parse().unwrap(), ..Default::default() };
                said(maintenance.alarm(self.request(request)).await, |answer| answer.alarms)
            }
            ["members"] => {
                let mut cluster = pb::cluster_client::ClusterClient::new(self.channel.clone());
                said(cluster.member_list(self.request(pb::MemberListRequest { linearizable: true })).await, |answer| answer.members.len())
            }
            ["member", "remove", id] => {
                let mut cluster = pb::cluster_client::ClusterClient::new(self.channel.clone());
                said(cluster.member_remove(self.request(pb::MemberRemoveRequest { id: id.parse().unwrap() })).await, |_| ())
            }
            other => panic!("what is {other:?}?"),
        }
    }

    /// How a watch begins.
    async fn watch(&self, create: pb::WatchCreateRequest) -> Said {
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        let requests = tokio_stream::StreamExt::chain(tokio_stream::once(create), tokio_stream::pending());
        let mut answers = WatchClient::new(self.channel.clone()).watch(self.request(requests)).await.unwrap().into_inner();
        let answer = tokio::time::timeout(Duration::from_secs(5), answers.message()).await.expect("an answer in time");
        let answer = answer.map(|answer| Response::new(answer.expect("an answer")));
        said(answer, |answer| (answer.created, answer.canceled, answer.cancel_reason))
    }
}

fn said<T, U: Debug>(answer: Result<Response<T>, Status>, what: impl FnOnce(T) -> U) -> Said {
    match answer {
        Ok(answer) => Ok(format!("{:?}", what(answer.into_inner()))),
        Err(status) => Err((status.code(), status.message().to_owned())),
    }
}

/// `KEY`, `KEY END`, or `KEY ..` for all keys from it on; `PREFIX*`.
fn range(words: &[&str]) -> (bytes::Bytes, bytes::Bytes) {
    let text = |word: &str| if word == "''" { String::new() } else { word.to_owned() };
    match words {
        [key] => match key.strip_suffix('*') {
            Some(prefix) => (prefix.to_owned().into(), store::KeyRange::prefix(prefix.to_owned()).end.unwrap()),
            None => (text(key).into(), bytes::Bytes::new()),
        },
        [key, ".."] => (text(key).into(), bytes::Bytes::from_static(b"\0")),
        [key, end] => (text(key).into(), text(end).into()),
        other => panic!("no range: {other:?}"),
    }
}

fn put(key: &str, options: &[&str]) -> pb::PutRequest {
    let mut request = pb::PutRequest { key: key.to_owned().into(), value: "v".into(), ..Default::default() };
    for option in options {
        match option.parse() {
            Ok(lease) => request.lease = lease,
            Err(_) => request.prev_kv = true,
        }
    }
    request
}

fn op(words: &[&str]) -> pb::RequestOp {
    use pb::request_op::Request as Op;
    let request = match words {
        ["get", rest @ ..] => {
            let (key, range_end) = range(rest);
            Op::RequestRange(pb::RangeRequest { key, range_end, ..Default::default() })
        }
        ["put", key, options @ ..] => Op::RequestPut(put(key, options)),
        ["del", rest @ ..] => {
            let prev_kv = rest.last() == Some(&"prev");
            let (key, range_end) = range(rest.strip_suffix(&["prev"]).unwrap_or(rest));
            Op::RequestDeleteRange(pb::DeleteRangeRequest { key, range_end, prev_kv })
        }
        other => panic!("no operation: {other:?}"),
    };
    pb::RequestOp { request: Some(request) }
}

/// Runs each line on both and compares. Lines that start with `!` are not compared: etcd 3.4 answers them otherwise than 3.5.
async fn compare(real: &Client, ours: &Client, script: &str) {
    let mut different = Vec::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (line, compared) = line.strip_prefix('!').map_or((line, true), |line| (line, false));
        let (a, b) = (real.say(line).await, ours.say(line).await);
        println!("{line}\n    etcd {a:?}");
        if a != b {
            println!("    ours {b:?}");
            if compared {
                different.push(format!("{line}\n    etcd {a:?}\n    ours {b:?}"));
            }
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

const SCRIPT: &str = "
    login root root
    enable
    user add '' secret
    user add root root
    user add root root
    enable
    user add ann ann
    user add bob bob
    user certify cert
    user list
    user get ann
    user get eve
    user delete eve
    user passwd eve eve
    user grant eve owner
    user grant ann owner
    user revoke ann owner
    user revoke eve owner
    role list
    role get owner
    role delete owner
    role grant owner read k
    role revoke owner k
    role add owner
    role add owner
    role add guest
    role add drop
    role list
    role grant owner readwrite /ann/*
    role grant owner read /shared ..
    role grant owner read a b
    role grant owner write a b
    role grant guest read /ann/*
    role grant guest read /b /c
    role grant guest read /c /d
    role grant drop write /drop
    role get owner
    role revoke owner a c
    role revoke owner a b
    role revoke owner a b
    role get owner
    role get guest
    user grant ann owner
    user grant ann owner
    user grant bob guest
    user grant bob drop
    user get bob
    user grant root root
    role get root
    role add root
    !role get root
    put /before
    put /secret 
    lease grant 1
    lease grant 2
    put /root/leased 2
    enable
    enable
    user list
    =bogus>user list
    =bogus>get /ann/1
    put /ann/1
    get /ann/1
    del /ann/1
    txn put /ann/1
    txn get /ann/1
    watch /ann/1
    =bogus>watch /ann/1
    !lease revoke 1
    role list
    disable
    !defrag
    !hashkv
    login ann wrong
    login eve eve
    login '' ''
    login cert ''
    login cert cert
    login ann ann
    ann:wrong>put /ann/1
    ann:ann>put /ann/1
    ann:ann>put /ann/1 prev
    ann:ann>put /bob/1
    ann:ann>get /ann/1
    ann:ann>get /ann/*
    ann:ann>get /ann/ ..
    ann:ann>get /shared ..
    ann:ann>get /z ..
    ann:ann>get /z /a
    ann:ann>get /a
    ann:ann>del /ann/1 prev
    ann:ann>del /shared
    ann:ann>txn put /ann/1
    ann:ann>txn put /bob/1
    ann:ann>txn if /ann/1 then put /ann/2
    ann:ann>txn if /bob/1 then put /ann/2
    ann:ann>txn if /ann/1 then put /bob/2
    ann:ann>txn get /ann/*
    ann:ann>txn get /*
    ann:ann>txn del /ann/* prev
    ann:ann>txn del /*
    ann:ann>watch /ann/1
    ann:ann>watch /ann/*
    ann:ann>watch /bob/1
    ann:ann>watch /shared ..
    ann:ann>user get ann
    ann:ann>user get bob
    ann:ann>role get owner
    ann:ann>role get guest
    ann:ann>user list
    ann:ann>role list
    ann:ann>user add eve eve
    ann:ann>user passwd ann other
    ann:ann>role add other
    ann:ann>disable
    ann:ann>enable
    !ann:ann>defrag
    !ann:ann>hashkv
    ann:ann>lease grant 3
    ann:ann>put /ann/leased 3
    ann:ann>put /ann/leased 2
    ann:ann>lease revoke 2
    ann:ann>lease keys 3
    !ann:ann>lease keys 2
    ann:ann>lease renew 3
    bob:bob>lease revoke 3
    bob:bob>lease keys 3
    bob:bob>get /ann/*
    bob:bob>get /b /d
    bob:bob>get /b /d0
    bob:bob>put /ann/1
    bob:bob>put /drop
    bob:bob>put /drop prev
    bob:bob>del /drop prev
    bob:bob>txn del /drop prev
    bob:bob>del /drop
    root:root>get /ann/*
    root:root>put anything prev
    root:root>user delete root
    root:root>user revoke root root
    root:root>role delete root
    !root:root>role get root
    root:root>user get cert
    root:root>user passwd ann other
    ann:ann>put /ann/1
    ann:other>put /ann/1
    root:root>role revoke owner /ann/*
    ann:other>put /ann/1
    root:root>role grant owner readwrite /ann/*
    ann:other>put /ann/1
    root:root>role delete owner
    ann:other>put /ann/1
    root:root>user get ann
    root:root>user delete ann
    ann:other>put /ann/1
    root:root>lease revoke 3
    root:root>disable
    put /ann/1
    disable
    !=bogus>get /ann/1
    user delete root
    login root root
    user list
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ours_answers_as_etcd_does() {
    let real = RealEtcd::start_with(&["--bcrypt-cost", "4"]).await;
    let ours = OurEtcd::start_with(options()).await;
    compare(&Client::new(&real.endpoint).await, &Client::new(&ours.endpoint).await, SCRIPT).await;
    ours.stop().await;
}

fn options() -> Options {
    let mut options = Options::default();
    options.auth.bcrypt_cost = 4;
    options
}

/// Asks ours alone, where etcd 3.4 has not yet what 3.5 answers or is open where its advisories say that it must not be.
struct Ours {
    client: Client,
}

impl Ours {
    async fn ok(&self, line: &str, expected: &str) {
        assert_eq!(self.client.say(line).await, Ok(expected.to_owned()), "{line}");
    }

    async fn fails(&self, line: &str, code: Code, text: &str) {
        assert_eq!(self.client.say(line).await, Err((code, text.to_owned())), "{line}");
    }

    async fn denied(&self, line: &str) {
        self.fails(line, Code::PermissionDenied, "etcdserver: permission denied").await;
    }

    async fn nobody(&self, line: &str) {
        self.fails(line, Code::InvalidArgument, "etcdserver: user name is empty").await;
    }

    /// root, and ann who reads the one key `/ann/1` and writes below `/ann/`.
    async fn set_up(&self) {
        for line in [
            "user add root root",
            "user grant root root",
            "user add ann ann",
            "role add owner",
            "role grant owner read /ann/1",
            "role grant owner write /ann/*",
            "user grant ann owner",
            "lease grant 1",
            "lease grant 2",
            "put /root 2",
            "enable",
        ] {
            assert!(self.client.say(line).await.is_ok(), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_later_versions_close() {
    let etcd = OurEtcd::start_with(options()).await;
    let ours = Ours { client: Client::new(&etcd.endpoint).await };
    ours.set_up().await;
    // GHSA-rfx7-8w68-q57q: parts of nested transactions.
    ours.ok("ann:ann>txn nested put /ann/1", "true").await;
    ours.denied("ann:ann>txn nested put /root").await;
    ours.denied("ann:ann>txn nested get /root").await;
    ours.denied("ann:ann>txn nested del /*").await;
    // GHSA-x35m-3gp4-4fh5: what a put in a transaction reads, and the lease that it joins.
    ours.denied("ann:ann>txn put /ann/2 prev").await;
    ours.denied("ann:ann>txn put /ann/1 2").await;
    ours.ok("ann:ann>txn put /ann/1 1", "true").await;
    // GHSA-xg4h-6gfc-h4m8: one key is not all keys from it on.
    let denied = "(true, true, \"rpc error: code = PermissionDenied desc = etcdserver: permission denied\")";
    ours.ok("ann:ann>watch /ann/1", "(true, false, \"\")").await;
    ours.ok("ann:ann>watch /ann/1 ..", denied).await;
    ours.ok("ann:ann>watch '' ..", denied).await;
    // GHSA-q8m4-xhhv-38mg: nobody learns or does anything.
    for line in ["members", "alarm 0", "alarm 2", "status", "compact 1", "lease grant 9", "lease revoke 1", "lease renew 1"] {
        ours.nobody(line).await;
    }
    for line in ["lease time 1", "lease keys 1", "lease list", "defrag", "hashkv", "member remove 1", "user get ann", "role get owner"] {
        ours.nobody(line).await;
    }
    for line in ["members", "alarm 0", "alarm 2", "status", "lease list", "get /ann/1", "put /ann/1", "user list", "enable"] {
        ours.fails(&format!("=bogus>{line}"), Code::Unauthenticated, "etcdserver: invalid auth token").await;
    }
    ours.ok("ann:ann>members", "1").await;
    ours.ok("ann:ann>alarm 0", "[]").await;
    ours.ok("ann:ann>status", "()").await;
    ours.ok("ann:ann>lease time 2", "1000").await;
    for line in ["alarm 2", "defrag", "hashkv", "member remove 1", "lease keys 2", "lease list", "lease renew 2", "lease revoke 2"] {
        ours.denied(&format!("ann:ann>{line}")).await;
    }
    ours.ok("root:root>defrag", "()").await;
    ours.ok("root:root>role add root", "()").await;
    let everything = "[Permission { perm_type: Readwrite, key: b\"\", range_end: b\"\\0\" }]";
    ours.ok("root:root>role get root", everything).await;
    ours.fails("root:root>role grant owner read b a", Code::InvalidArgument, "etcdserver: invalid auth management").await;
    // While it is off nobody looks at tokens.
    ours.ok("root:root>disable", "()").await;
    ours.ok("=bogus>del /ann/1", "1").await;
    etcd.stop().await;
}
