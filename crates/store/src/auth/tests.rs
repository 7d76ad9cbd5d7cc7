//! The rules of users and roles, of who may do what, and how they survive. Expectations are etcd's (server/auth/store_test.go, apply_auth_test.go name the
//! same cases).

use super::*;
use crate::kv::*;
use crate::state::{Command, State};

fn hash(text: &str) -> PasswordHash {
    PasswordHash(text.to_owned().into())
}

fn user_add(name: &str) -> AuthCommand {
    AuthCommand::UserAdd { name: name.into(), password: hash("h"), no_password: false }
}

fn user_delete(name: &str) -> AuthCommand {
    AuthCommand::UserDelete { name: name.into() }
}

fn password(name: &str) -> AuthCommand {
    AuthCommand::UserChangePassword { name: name.into(), password: hash("other") }
}

fn give_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole { user: user.into(), role: role.into() }
}

fn take_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserRevokeRole { user: user.into(), role: role.into() }
}

fn role_add(name: &str) -> AuthCommand {
    AuthCommand::RoleAdd { name: name.into() }
}

fn role_delete(name: &str) -> AuthCommand {
    AuthCommand::RoleDelete { name: name.into() }
}

fn grant(role: &str, kind: PermissionKind, range: KeyRange) -> AuthCommand {
    AuthCommand::RoleGrantPermission { role: role.into(), permission: Permission { kind, range } }
}

fn ungrant(role: &str, range: KeyRange) -> AuthCommand {
    AuthCommand::RoleRevokePermission { role: role.into(), range }
}

fn login(user: &str, revision: u64) -> AuthCommand {
    AuthCommand::Authenticate { user: user.into(), nonce: "nonce".into(), revision }
}

/// Carries out commands as the server, one after the other.
struct Script {
    state: State,
    index: u64,
}

impl Script {
    fn new() -> Self {
        Self { state: State::default(), index: 0 }
    }

    /// root with its role, ann who reads and writes `/ann/`, bob who reads `/ann/`; authentication on.
    fn enabled() -> Self {
        let mut script = Self::new();
        for command in [
            user_add("root"),
            give_role("root", "root"),
            user_add("ann"),
            user_add("bob"),
            role_add("owner"),
            role_add("guest"),
            grant("owner", PermissionKind::ReadWrite, KeyRange::prefix("/ann/")),
            grant("guest", PermissionKind::Read, KeyRange::prefix("/ann/")),
            give_role("ann", "owner"),
            give_role("bob", "guest"),
            AuthCommand::Enable,
        ] {
            script.good(command);
        }
        script
    }

    fn apply(&mut self, command: Command) -> Result<(), KvError> {
        self.index += 1;
        self.state.apply(self.index, command, 0).result.map(|_| ())
    }

    fn run(&mut self, command: AuthCommand) -> Result<(), KvError> {
        self.apply(Command::As(Caller::Server, Box::new(Command::Auth(command))))
    }

    fn good(&mut self, command: AuthCommand) {
        let what = format!("{command:?}");
        assert_eq!(self.run(command), Ok(()), "{what}");
    }

    fn bad(&mut self, command: AuthCommand, expected: AuthError) {
        let (what, before) = (format!("{command:?}"), self.state.auth.record().clone());
        assert_eq!(self.run(command), Err(KvError::Auth(expected)), "{what}");
        assert_eq!(*self.state.auth.record(), before, "{what}");
    }

    fn user(&self, name: &str) -> Caller {
        Caller::User { name: name.into(), revision: self.state.auth.revision() }
    }

    fn as_user(&mut self, name: &str, command: Command) -> Result<(), KvError> {
        let caller = self.user(name);
        self.apply(Command::As(caller, Box::new(command)))
    }
}

#[test]
fn users_and_roles() {
    let mut script = Script::new();
    script.bad(AuthCommand::Enable, AuthError::RootUserNotExist);
    script.bad(user_add(""), AuthError::UserEmpty);
    script.good(user_add("root"));
    script.bad(user_add("root"), AuthError::UserAlreadyExist);
    script.bad(AuthCommand::Enable, AuthError::RootRoleNotExist);
    script.bad(user_delete("ann"), AuthError::UserNotFound);
    script.bad(password("ann"), AuthError::UserNotFound);
    script.bad(give_role("ann", "root"), AuthError::UserNotFound);
    script.bad(give_role("root", "owner"), AuthError::RoleNotFound);
    script.bad(take_role("ann", "owner"), AuthError::UserNotFound);
    script.bad(take_role("root", "owner"), AuthError::RoleNotGranted);
    script.bad(role_add(""), AuthError::RoleEmpty);
    script.good(role_add("owner"));
    script.bad(role_add("owner"), AuthError::RoleAlreadyExist);
    script.bad(role_delete("guest"), AuthError::RoleNotFound);
    script.good(give_role("root", "root"));
    script.bad(login("root", 5), AuthError::AuthNotEnabled);
    script.good(AuthCommand::Enable);
    script.bad(user_delete("root"), AuthError::InvalidAuthMgmt);
    script.bad(take_role("root", "root"), AuthError::InvalidAuthMgmt);
    script.bad(role_delete("root"), AuthError::InvalidAuthMgmt);
    script.good(AuthCommand::Disable);
    script.good(take_role("root", "root"));
    script.good(user_delete("root"));
}

#[test]
fn permissions_of_roles() {
    let mut script = Script::new();
    let read = PermissionKind::Read;
    script.bad(grant("r", read, KeyRange::one("k")), AuthError::RoleNotFound);
    script.good(role_add("r"));
    script.bad(grant("r", read, KeyRange::one("")), AuthError::InvalidAuthMgmt);
    script.bad(grant("r", read, KeyRange::between("b", "a")), AuthError::InvalidAuthMgmt);
    script.bad(grant("r", read, KeyRange::between("b", "b")), AuthError::InvalidAuthMgmt);
    script.good(grant("r", read, KeyRange::between("b", "\0")));
    script.good(grant("r", read, KeyRange::one("a")));
    script.good(grant("r", read, KeyRange::between("a", "b")));
    script.good(grant("r", PermissionKind::Write, KeyRange::one("a")));
    let permissions = &script.state.auth.record().roles["r"].permissions;
    let shown: Vec<_> = permissions.iter().map(|permission| (permission.kind, permission.range.clone())).collect();
    let expected = [(PermissionKind::Write, KeyRange::one("a")), (read, KeyRange::between("a", "b")), (read, KeyRange::between("b", "\0"))];
    assert_eq!(shown, expected);
    script.bad(ungrant("x", KeyRange::one("a")), AuthError::RoleNotFound);
    script.bad(ungrant("r", KeyRange::between("a", "c")), AuthError::PermissionNotGranted);
    script.good(ungrant("r", KeyRange::between("a", "b")));
    script.bad(ungrant("r", KeyRange::between("a", "b")), AuthError::PermissionNotGranted);
}

#[test]
fn the_revision_counts_changes() {
    let mut script = Script::new();
    let mut check = |command: AuthCommand, grows: u64| {
        let before = script.state.auth.revision();
        script.good(command.clone());
        assert_eq!(script.state.auth.revision(), before + grows, "{command:?}");
    };
    check(user_add("root"), 1);
    check(give_role("root", "root"), 1);
    check(give_role("root", "root"), 0);
    check(AuthCommand::Enable, 0);
    check(AuthCommand::Enable, 0);
    check(role_add("r"), 1);
    check(grant("r", PermissionKind::Read, KeyRange::one("k")), 1);
    check(ungrant("r", KeyRange::one("k")), 1);
    check(role_delete("r"), 1);
    check(password("root"), 1);
    check(login("root", 8), 0);
    check(AuthCommand::Disable, 1);
    check(AuthCommand::Disable, 0);
}

fn put(key: &str) -> PutRequest {
    PutRequest::new(key.to_owned(), "v")
}

fn one(op: Op) -> Txn {
    Txn { success: vec![op], ..Txn::default() }
}

fn get(range: KeyRange) -> Op {
    Op::Range(RangeRequest::new(range))
}

fn delete(range: KeyRange, prev_kv: bool) -> Op {
    Op::Delete(DeleteRequest { range, prev_kv })
}

fn compare(key: &str) -> Txn {
    Txn { compare: vec![Compare::mod_revision(key.to_owned(), 0)], success: vec![Op::Put(put("/ann/x"))], ..Txn::default() }
}

#[test]
fn transactions_are_checked_in_all_their_parts() {
    let mut script = Script::enabled();
    script.good(grant("guest", PermissionKind::Write, KeyRange::one("/drop")));
    let own = || KeyRange::prefix("/ann/");
    let denied = Err(KvError::Auth(AuthError::PermissionDenied));
    let mut check = |user: &str, txn: Txn, good: bool| {
        let expected = if good { Ok(()) } else { denied.clone() };
        for depth in 0..3 {
            // The same inside other transactions, on either branch.
            let mut whole = txn.clone();
            for _ in 0..depth {
                whole = Txn { success: vec![], failure: vec![Op::Txn(whole.clone())], ..Txn::default() };
            }
            let caller = script.user(user);
            let found = script.state.auth.check_txn(&caller, &whole, &script.state.leases).map_err(KvError::Auth);
            assert_eq!(found, expected, "{user}: {whole:?}");
        }
        assert_eq!(script.as_user(user, Command::Txn(txn.clone())), expected, "{user}: {txn:?}");
    };
    check("ann", one(Op::Put(put("/ann/1"))), true);
    check("ann", one(Op::Put(PutRequest { prev_kv: true, ..put("/ann/1") })), true);
    check("ann", one(Op::Put(put("/bob/1"))), false);
    check("ann", one(get(own())), true);
    check("ann", one(get(KeyRange::between("/ann/", "\0"))), false);
    check("ann", compare("/ann/1"), true);
    check("ann", compare("/bob/1"), false);
    check("ann", one(delete(own(), true)), true);
    check("bob", one(get(own())), true);
    check("bob", one(Op::Put(put("/ann/1"))), false);
    check("bob", one(delete(own(), false)), false);
    // To write is not to read what was there before.
    check("bob", one(Op::Put(put("/drop"))), true);
    check("bob", one(Op::Put(PutRequest { prev_kv: true, ..put("/drop") })), false);
    check("bob", one(delete(KeyRange::one("/drop"), true)), false);
    check("bob", one(delete(KeyRange::one("/drop"), false)), true);
    check("root", one(Op::Put(put("anything"))), true);
    check("nobody", one(get(own())), false);
    let both = Txn { success: vec![get(own())], failure: vec![Op::Put(put("/bob/"))], ..Txn::default() };
    check("ann", both, false);
}

#[test]
fn a_lease_belongs_to_who_may_write_its_keys() {
    let mut script = Script::enabled();
    let denied = Err(KvError::Auth(AuthError::PermissionDenied));
    let grant_lease = |id| Command::LeaseGrant { id, ttl_ms: 1000 };
    assert_eq!(script.as_user("bob", grant_lease(1)), Ok(()));
    assert_eq!(script.as_user("ann", grant_lease(2)), Ok(()));
    let leased = |key: &str, lease| Command::Txn(one(Op::Put(PutRequest { lease, ..put(key) })));
    assert_eq!(script.as_user("root", leased("/root/1", 2)), Ok(()));
    assert_eq!(script.as_user("ann", leased("/ann/1", 1)), Ok(()));
    assert_eq!(script.as_user("ann", leased("/ann/1", 2)), denied, "its end would delete root's key");
    assert_eq!(script.as_user("ann", Command::LeaseRevoke(2)), denied);
    assert_eq!(script.as_user("bob", Command::LeaseRevoke(1)), denied);
    let (auth, leases) = (&script.state.auth, &script.state.leases);
    assert_eq!(auth.check_renew(&script.user("bob"), 1, leases), Err(AuthError::PermissionDenied));
    assert_eq!(auth.check_renew(&script.user("ann"), 1, leases), Ok(()));
    assert_eq!(auth.check_keys(&script.user("bob"), &["/ann/1".into()]), Ok(()));
    assert_eq!(auth.check_keys(&script.user("bob"), &["/ann/1".into(), "/root/1".into()]), Err(AuthError::PermissionDenied));
    assert_eq!(auth.check_keys(&Caller::Anonymous, &[]), Err(AuthError::UserEmpty));
    assert_eq!(auth.check_all_leases(&script.user("bob"), leases), Err(AuthError::PermissionDenied));
    assert_eq!(auth.check_all_leases(&script.user("root"), leases), Ok(()));
    assert_eq!(script.as_user("ann", Command::LeaseRevoke(1)), Ok(()));
    assert_eq!(script.as_user("ann", Command::LeaseRevoke(9)), Err(KvError::LeaseNotFound));
}

#[test]
fn nobody_may_do_nothing_once_it_is_on() {
    let mut script = Script::enabled();
    let nobody = Err(KvError::Auth(AuthError::UserEmpty));
    let commands = || {
        [
            Command::Txn(one(Op::Put(put("/ann/1")))),
            Command::Compact(1),
            Command::LeaseGrant { id: 1, ttl_ms: 1 },
            Command::LeaseRevoke(1),
            Command::Auth(AuthCommand::Disable),
            Command::Auth(user_add("eve")),
        ]
    };
    for command in commands() {
        assert_eq!(script.apply(command.clone()), nobody, "{command:?}");
        assert_eq!(script.apply(Command::As(Caller::Anonymous, Box::new(command.clone()))), nobody, "{command:?}");
    }
    // The server's own commands, those for its clients excepted, need nobody's leave.
    assert_eq!(script.apply(Command::LeaseCheckpoint(vec![])), Ok(()));
    script.good(AuthCommand::Disable);
    for command in commands() {
        let what = format!("{command:?}");
        assert_ne!(script.apply(command), nobody, "{what}");
    }
}

#[test]
fn only_root_changes_users() {
    let mut script = Script::enabled();
    let denied = Err(KvError::Auth(AuthError::PermissionDenied));
    for command in [user_add("eve"), password("ann"), give_role("ann", "root"), AuthCommand::Disable, AuthCommand::Enable] {
        assert_eq!(script.as_user("ann", Command::Auth(command.clone())), denied, "{command:?}");
    }
    let old = Caller::User { name: "root".into(), revision: 1 };
    assert_eq!(script.apply(Command::As(old, Box::new(Command::Auth(user_add("eve"))))), Ok(()), "the role counts now");
    let auth = &script.state.auth;
    let ann = script.user("ann");
    assert_eq!(auth.check_about_user(&ann, "ann"), Ok(()));
    assert_eq!(auth.check_about_user(&ann, "bob"), Err(AuthError::PermissionDenied));
    assert_eq!(auth.check_about_role(&ann, "owner"), Ok(()));
    assert_eq!(auth.check_about_role(&ann, "guest"), Err(AuthError::PermissionDenied));
    assert_eq!(auth.check_about_role(&Caller::Anonymous, "guest"), Err(AuthError::UserEmpty));
}

#[test]
fn a_change_of_permissions_and_a_write_are_in_one_order() {
    let mut script = Script::enabled();
    let ann = script.user("ann");
    script.good(ungrant("guest", KeyRange::prefix("/ann/")));
    let write = Command::Txn(one(Op::Put(put("/ann/1"))));
    let old = Err(KvError::Auth(AuthError::AuthOldRevision));
    assert_eq!(script.apply(Command::As(ann, Box::new(write.clone()))), old);
    assert_eq!(script.as_user("ann", write.clone()), Ok(()));
    script.good(take_role("ann", "owner"));
    assert_eq!(script.as_user("ann", write.clone()), Err(KvError::Auth(AuthError::PermissionDenied)));
    script.good(give_role("ann", "owner"));
    script.good(role_delete("owner"));
    script.good(role_add("owner"));
    assert_eq!(script.as_user("ann", write), Err(KvError::Auth(AuthError::PermissionDenied)), "the new role is another one");
}

#[test]
fn tokens_end_with_what_they_stand_for() {
    let mut script = Script::enabled();
    let log_in = |script: &mut Script| {
        let revision = script.state.auth.revision();
        script.good(login("ann", revision));
        format!("nonce.{}", script.index)
    };
    let check = |script: &Script, token: &str, good: bool| {
        let found = script.state.auth.resolve(&Identity::Token(token.into()), 0);
        assert_eq!(found, if good { Ok(script.user("ann")) } else { Err(AuthError::InvalidAuthToken) });
    };
    let token = log_in(&mut script);
    check(&script, &token, true);
    check(&script, "nonce.1", false);
    script.good(password("bob"));
    check(&script, &token, true);
    script.good(password("ann"));
    check(&script, &token, false);
    let token = log_in(&mut script);
    script.good(user_delete("ann"));
    script.good(user_add("ann"));
    check(&script, &token, false);
    let token = log_in(&mut script);
    script.good(AuthCommand::Disable);
    script.good(AuthCommand::Enable);
    check(&script, &token, false);
    script.bad(login("ann", 1), AuthError::AuthOldRevision);
    script.bad(login("eve", script.state.auth.revision()), AuthError::AuthFailed);
    script.good(AuthCommand::UserAdd { name: "cert".into(), password: hash("h"), no_password: true });
    script.bad(login("cert", script.state.auth.revision()), AuthError::AuthFailed);
    assert_eq!(script.state.auth.record().users["cert"].password, PasswordHash::default());
}

#[test]
fn identities() {
    let script = Script::enabled();
    let auth = &script.state.auth;
    let check = |identity: Identity, expected: Result<Caller, AuthError>| assert_eq!(auth.resolve(&identity, 0), expected, "{identity:?}");
    let signed = |expires_unix_ms| Identity::Signed { user: "ann".into(), revision: 3, expires_unix_ms };
    check(Identity::Anonymous, Ok(Caller::Anonymous));
    check(Identity::Server, Ok(Caller::Server));
    check(Identity::Named("eve".into()), Ok(script.user("eve")));
    check(signed(i64::MAX), Ok(Caller::User { name: "ann".into(), revision: 3 }));
    check(signed(0), Err(AuthError::InvalidAuthToken));
    check(Identity::Invalid, Err(AuthError::InvalidAuthToken));
    check(Identity::Token("x".into()), Err(AuthError::InvalidAuthToken));
    let off = Auth::default();
    for identity in [Identity::Invalid, Identity::Token("x".into()), Identity::Named("eve".into()), signed(0)] {
        assert_eq!(off.resolve(&identity, 0), Ok(Caller::Anonymous), "nobody looks while it is off");
    }
}

#[test]
fn the_section_survives() {
    let script = Script::enabled();
    let bytes = script.state.auth.record().to_bytes();
    assert_eq!(AuthRecord::from_bytes(&bytes).unwrap(), *script.state.auth.record());
    for cut in 0..bytes.len() {
        assert!(AuthRecord::from_bytes(&bytes[..cut]).is_err(), "{cut}");
    }
    let mut again = State::default();
    again.restore_extras(&script.state.extras()).unwrap();
    assert_eq!(again.auth.check_read(&script.user("bob"), &KeyRange::prefix("/ann/")), Ok(()));
    assert_eq!(again.auth.check_read(&script.user("bob"), &KeyRange::prefix("/")), Err(AuthError::PermissionDenied));
    assert!(State::default().extras().is_empty());
    assert!(again.restore_extras(&vec![("later".into(), vec![])]).is_err());
}

#[tokio::test]
async fn an_engine_speaks_for_somebody() {
    let tasks = base::Tasks::new();
    let dir = tempfile::tempdir().unwrap();
    let engine = crate::Engine::open(dir.path(), crate::EngineOptions::default(), &tasks).unwrap();
    let server = engine.acting_as(Identity::Server);
    for command in [user_add("root"), give_role("root", "root"), user_add("ann"), role_add("r"), give_role("ann", "r")] {
        engine.change_auth(command).await.unwrap();
    }
    engine.change_auth(grant("r", PermissionKind::ReadWrite, KeyRange::prefix("a"))).await.unwrap();
    engine.put(put("b")).await.unwrap();
    engine.change_auth(AuthCommand::Enable).await.unwrap();
    assert_eq!(engine.put(put("a")).await, Err(AuthError::UserEmpty.into()));
    assert_eq!(engine.change_auth(AuthCommand::Disable).await, Err(AuthError::UserEmpty.into()));
    server.put(put("a")).await.unwrap();
    let (stored, revision) = engine.password_of("ann").await.unwrap();
    assert_eq!(stored, hash("h"));
    let token = engine.give_token("ann".into(), "nonce".into(), revision).await.unwrap();
    let ann = engine.acting_as(Identity::Token(token.into()));
    ann.put(put("a1")).await.unwrap();
    assert_eq!(ann.put(put("b1")).await, Err(AuthError::PermissionDenied.into()));
    assert_eq!(ann.range(RangeRequest::new(KeyRange::prefix("a"))).await.unwrap().count, 2);
    let all = || KeyRange::between("\0", "\0");
    assert_eq!(ann.range(RangeRequest::new(all())).await.map(|_| ()), Err(AuthError::PermissionDenied.into()));
    assert!(ann.txn(one(get(KeyRange::prefix("a")))).await.is_ok());
    assert!(ann.txn(one(get(KeyRange::one("b")))).await.is_err());
    assert!(ann.watch(WatchRequest::new(KeyRange::prefix("a"), 0)).await.is_ok());
    assert!(ann.watch(WatchRequest::new(KeyRange::between("a", "\0"), 0)).await.is_err());
    // A change of users does not stop who is still there.
    server.change_auth(user_add("bob")).await.unwrap();
    ann.put(put("a2")).await.unwrap();
    assert_eq!(ann.user_roles("ann").await.unwrap(), ["r"]);
    assert_eq!(ann.user_names().await, Err(AuthError::PermissionDenied.into()));
    let signed = engine.acting_as(Identity::Signed { user: "ann".into(), revision: 1, expires_unix_ms: i64::MAX });
    assert_eq!(signed.put(put("a")).await, Err(AuthError::AuthOldRevision.into()));
    engine.close().await.unwrap();
    // What is stored is there again; who was logged in is not.
    let engine = crate::Engine::open(dir.path(), crate::EngineOptions::default(), &tasks).unwrap();
    assert_eq!(engine.acting_as(Identity::Server).user_names().await.unwrap(), ["ann", "bob", "root"]);
    assert_eq!(engine.acting_as(ann.identity.clone()).put(put("a")).await, Err(AuthError::InvalidAuthToken.into()));
    engine.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_member_is_waited_for() {
    let engine = crate::Engine::in_memory(crate::EngineOptions::default(), &base::Tasks::new());
    let waited = async |text: &str| {
        let before = base::clock::monotonic();
        engine.await_token(text).await;
        before.elapsed() > std::time::Duration::ZERO
    };
    assert!(!waited("nonce.99").await, "nobody looks at tokens while it is off");
    for command in [user_add("root"), give_role("root", "root"), AuthCommand::Enable] {
        engine.change_auth(command).await.unwrap();
    }
    assert!(!waited("nonce.3").await, "known");
    assert!(!waited("x.y.z").await, "none of ours");
    assert!(waited("nonce.18446744073709551615").await, "but not for ever");
    let server = engine.acting_as(Identity::Server);
    let (waiting, coming) = tokio::join!(waited("nonce.4"), server.change_auth(user_add("ann")));
    assert!(waiting && coming.is_ok());
}
