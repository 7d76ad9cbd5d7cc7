//! What is asked of a caller before his request is looked into, method by method. A test walks the protocol: a method that is not in the table fails it, and
//! is closed to all but root until it is.
//!
//! The rules are etcd's with the repairs of its advisory GHSA-q8m4-xhhv-38mg (server/etcdserver/api/v3rpc: authMaintenanceServer, authClusterServer).

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Open to everybody.
    Nothing,
    /// To be somebody.
    Somebody,
    /// The root role.
    Root,
    /// It depends on keys, leases, users or roles that the request names: the store decides.
    Store,
}

/// What the method asks for.
pub fn of(service: &str, method: &str) -> Need {
    find(service, method).unwrap_or(Need::Root)
}

fn find(service: &str, method: &str) -> Option<Need> {
    Some(match (service, method) {
        ("etcdserverpb.KV", "Range" | "Put" | "DeleteRange" | "Txn") => Need::Store,
        ("etcdserverpb.KV", "Compact") => Need::Somebody,
        ("etcdserverpb.Watch", "Watch") => Need::Store,
        ("etcdserverpb.Lease", "LeaseGrant" | "LeaseTimeToLive") => Need::Somebody,
        ("etcdserverpb.Lease", "LeaseRevoke" | "LeaseKeepAlive" | "LeaseLeases") => Need::Store,
        ("etcdserverpb.Cluster", "MemberList") => Need::Somebody,
        ("etcdserverpb.Cluster", "MemberAdd" | "MemberRemove" | "MemberUpdate" | "MemberPromote") => Need::Root,
        // To raise and disarm alarms needs more, which the service asks for.
        ("etcdserverpb.Maintenance", "Alarm" | "Status") => Need::Somebody,
        ("etcdserverpb.Maintenance", "Defragment" | "Hash" | "HashKV" | "Snapshot" | "MoveLeader" | "Downgrade") => Need::Root,
        ("etcdserverpb.Auth", "Authenticate") => Need::Nothing,
        ("etcdserverpb.Auth", "UserGet" | "RoleGet") => Need::Store,
        ("etcdserverpb.Auth", "AuthEnable" | "AuthDisable" | "AuthStatus") => Need::Root,
        ("etcdserverpb.Auth", "UserAdd" | "UserList" | "UserDelete" | "UserChangePassword" | "UserGrantRole" | "UserRevokeRole") => {
            Need::Root
        }
        ("etcdserverpb.Auth", "RoleAdd" | "RoleList" | "RoleDelete" | "RoleGrantPermission" | "RoleRevokePermission") => Need::Root,
        ("v3lockpb.Lock", "Lock" | "Unlock") => Need::Store,
        ("v3electionpb.Election", "Campaign" | "Proclaim" | "Leader" | "Observe" | "Resign") => Need::Store,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::gateway::schema::SERVICES;

    #[test]
    fn every_method_of_the_protocol_is_in_the_table() {
        let mut seen = 0;
        for service in SERVICES {
            for method in service.methods {
                assert!(find(service.name, method.name).is_some(), "{}/{}: what does it ask of its caller?", service.name, method.name);
                seen += 1;
            }
        }
        assert!(seen >= 41, "only {seen} methods: is that the whole protocol?");
        assert_eq!(of("etcdserverpb.KV", "RangeStream"), Need::Root);
        assert_eq!(of("other", "Range"), Need::Root);
    }
}
