//! Users and what they may do are the same on all members, whichever one they turn to.

use std::time::Duration;

use super::net::{self, Cluster};
use super::{get, put};
use crate::auth::{AuthCommand, AuthError, Identity, PasswordHash, Permission, PermissionKind};
use crate::kv::*;

/// root, and ann who reads and writes below `a`; authentication on.
async fn enable(cluster: &Cluster, through: u64) {
    let user = |name: &str| AuthCommand::UserAdd { name: name.into(), password: PasswordHash("h".into()), no_password: false };
    let give = |user: &str, role: &str| AuthCommand::UserGrantRole { user: user.into(), role: role.into() };
    let permission = Permission { kind: PermissionKind::ReadWrite, range: KeyRange::prefix("a") };
    for command in [
        user("root"),
        give("root", "root"),
        user("ann"),
        AuthCommand::RoleAdd { name: "owner".into() },
        AuthCommand::RoleGrantPermission { role: "owner".into(), permission },
        give("ann", "owner"),
        AuthCommand::Enable,
    ] {
        cluster.engine(through).change_auth(command).await.unwrap();
    }
}

async fn log_in(cluster: &Cluster, through: u64) -> Identity {
    let (_, revision) = cluster.engine(through).password_of("ann").await.unwrap();
    Identity::Token(cluster.engine(through).give_token("ann".into(), "nonce".into(), revision).await.unwrap().into())
}

/// The member as ann uses it.
async fn as_ann(cluster: &Cluster, member: u64, token: &Identity) -> crate::Engine {
    if let Identity::Token(text) = token {
        cluster.engine(member).await_token(text).await;
    }
    cluster.engine(member).acting_as(token.clone())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_good_everywhere_until_it_is_not() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let [first, second] = cluster.others(leader)[..] else { panic!("three members") };
    enable(&cluster, first).await;
    let token = log_in(&cluster, first).await;
    for id in cluster.ids() {
        let ann = as_ann(&cluster, id, &token).await;
        ann.put(put("a", "1")).await.unwrap();
        assert_eq!(ann.put(put("b", "1")).await, Err(AuthError::PermissionDenied.into()), "member {id}");
        assert_eq!(ann.range(get("a")).await.unwrap().count, 1);
    }
    // What root changes on one member holds on all from the moment that he is told.
    let root = cluster.engine(first).acting_as(Identity::Server);
    root.change_auth(AuthCommand::RoleDelete { name: "owner".into() }).await.unwrap();
    for id in cluster.ids() {
        let ann = as_ann(&cluster, id, &token).await;
        assert_eq!(ann.range(get("a")).await.map(|_| ()), Err(AuthError::PermissionDenied.into()), "member {id}");
        assert_eq!(ann.put(put("a", "2")).await, Err(AuthError::PermissionDenied.into()), "member {id}");
    }
    let password = PasswordHash("other".into());
    root.change_auth(AuthCommand::UserChangePassword { name: "ann".into(), password }).await.unwrap();
    for id in [leader, second] {
        let ann = as_ann(&cluster, id, &token).await;
        assert_eq!(ann.put(put("a", "3")).await, Err(AuthError::InvalidAuthToken.into()), "member {id}");
    }
    cluster.same_everywhere().await;
    cluster.stop().await;
}

/// A member that does not know yet that authentication is on lets nobody in by that.
#[tokio::test(start_paused = true)]
async fn a_member_that_is_behind_opens_no_door() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let behind = cluster.follower(leader);
    cluster.net.cut_off(behind);
    enable(&cluster, leader).await;
    let engine = cluster.engine(behind).clone();
    assert!(!engine.is_auth_enabled());
    let (write, change) = (engine.clone(), engine.clone());
    let write = tokio::spawn(async move { write.put(put("b", "1")).await });
    let change = tokio::spawn(async move { change.remove_member(1).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    cluster.net.heal();
    let written = write.await.unwrap();
    assert!(written.is_err(), "{written:?}");
    assert!(change.await.unwrap().is_err());
    let root = cluster.engine(leader).acting_as(Identity::Server);
    assert_eq!(root.range(get("b")).await.unwrap().count, 0);
    assert_eq!(cluster.engine(leader).members().len(), 3);
    assert_eq!(engine.put(put("b", "1")).await, Err(AuthError::UserEmpty.into()));
    cluster.stop().await;
}

/// Users come with a snapshot, and with the log after a restart; who was logged in is not.
#[tokio::test(start_paused = true)]
async fn new_and_restarted_members_know_the_users() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    enable(&cluster, leader).await;
    let token = log_in(&cluster, leader).await;
    let follower = cluster.follower(leader);
    cluster.crash(follower);
    cluster.restart(follower);
    let server = cluster.engine(leader).acting_as(Identity::Server);
    for n in 0..300 {
        server.put(put("a", &n.to_string())).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(cluster.engine(leader).add_member(net::member(4, true)).await.map(|_| ()), Err(AuthError::UserEmpty.into()));
    let members = server.add_member(net::member(4, true)).await.unwrap();
    cluster.join(4, members);
    for id in [follower, 4] {
        let own = cluster.engine(id).acting_as(Identity::Server);
        while own.range(RangeRequest { serializable: true, ..get("a") }).await.map_or(0, |found| found.count) == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(cluster.engine(id).is_auth_enabled(), "member {id}");
        let anonymous = cluster.engine(id).range(RangeRequest { serializable: true, ..get("a") }).await;
        assert_eq!(anonymous.map(|_| ()), Err(AuthError::UserEmpty.into()), "member {id}");
    }
    let ann = as_ann(&cluster, leader, &token).await;
    ann.put(put("a", "last")).await.unwrap();
    // The restarted member has forgotten who was logged in.
    let ann = as_ann(&cluster, follower, &token).await;
    assert_eq!(ann.put(put("a", "later")).await, Err(AuthError::InvalidAuthToken.into()));
    cluster.stop().await;
}
