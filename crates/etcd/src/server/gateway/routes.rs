//! Which path is which method (the `google.api.http` options in etcd's rpc.proto, v3lock.proto and v3election.proto). Nothing else.

use super::schema::{self, Method};

pub struct Route {
    pub service: &'static str,
    pub method: &'static Method,
}

/// Paths below `/v3/` by service. HashKV has its path of etcd 3.6: before, Hash hid it.
const ROUTES: &[(&str, &[(&str, &str)])] = &[
    (
        "etcdserverpb.KV",
        &[("kv/range", "Range"), ("kv/put", "Put"), ("kv/deleterange", "DeleteRange"), ("kv/txn", "Txn"), ("kv/compaction", "Compact")],
    ),
    ("etcdserverpb.Watch", &[("watch", "Watch")]),
    (
        "etcdserverpb.Lease",
        &[
            ("lease/grant", "LeaseGrant"),
            ("lease/revoke", "LeaseRevoke"),
            ("kv/lease/revoke", "LeaseRevoke"),
            ("lease/keepalive", "LeaseKeepAlive"),
            ("lease/timetolive", "LeaseTimeToLive"),
            ("kv/lease/timetolive", "LeaseTimeToLive"),
            ("lease/leases", "LeaseLeases"),
            ("kv/lease/leases", "LeaseLeases"),
        ],
    ),
    (
        "etcdserverpb.Cluster",
        &[
            ("cluster/member/add", "MemberAdd"),
            ("cluster/member/remove", "MemberRemove"),
            ("cluster/member/update", "MemberUpdate"),
            ("cluster/member/list", "MemberList"),
            ("cluster/member/promote", "MemberPromote"),
        ],
    ),
    (
        "etcdserverpb.Maintenance",
        &[
            ("maintenance/alarm", "Alarm"),
            ("maintenance/status", "Status"),
            ("maintenance/defragment", "Defragment"),
            ("maintenance/hash", "Hash"),
            ("maintenance/hashkv", "HashKV"),
            ("maintenance/snapshot", "Snapshot"),
            ("maintenance/transfer-leadership", "MoveLeader"),
            ("maintenance/downgrade", "Downgrade"),
        ],
    ),
    (
        "etcdserverpb.Auth",
        &[
            ("auth/enable", "AuthEnable"),
            ("auth/disable", "AuthDisable"),
            ("auth/status", "AuthStatus"),
            ("auth/authenticate", "Authenticate"),
            ("auth/user/add", "UserAdd"),
            ("auth/user/get", "UserGet"),
            ("auth/user/list", "UserList"),
            ("auth/user/delete", "UserDelete"),
            ("auth/user/changepw", "UserChangePassword"),
            ("auth/user/grant", "UserGrantRole"),
            ("auth/user/revoke", "UserRevokeRole"),
            ("auth/role/add", "RoleAdd"),
            ("auth/role/get", "RoleGet"),
            ("auth/role/list", "RoleList"),
            ("auth/role/delete", "RoleDelete"),
            ("auth/role/grant", "RoleGrantPermission"),
            ("auth/role/revoke", "RoleRevokePermission"),
        ],
    ),
    ("v3lockpb.Lock", &[("lock/lock", "Lock"), ("lock/unlock", "Unlock")]),
    (
        "v3electionpb.Election",
        &[
            ("election/campaign", "Campaign"),
            ("election/proclaim", "Proclaim"),
            ("election/leader", "Leader"),
            ("election/observe", "Observe"),
            ("election/resign", "Resign"),
        ],
    ),
];

/// The method of a path; `/v3beta/` is an old name for `/v3/` (server/embed/serve.go).
pub fn find(path: &str) -> Option<Route> {
    let path = path.strip_prefix("/v3/").or_else(|| path.strip_prefix("/v3beta/"))?;
    ROUTES.iter().find_map(|(service, paths)| {
        let (_, name) = paths.iter().find(|(known, _)| *known == path)?;
        Some(Route { service, method: schema::method(service, name)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_method_has_a_path_and_every_path_a_method() {
        for (service, paths) in ROUTES {
            for (path, name) in *paths {
                let route = find(&format!("/v3/{path}")).unwrap_or_else(|| panic!("{path} leads nowhere"));
                assert_eq!((route.service, route.method.name), (*service, *name));
            }
        }
        for service in schema::SERVICES.iter().filter(|service| ROUTES.iter().any(|(known, _)| *known == service.name)) {
            let (_, paths) = ROUTES.iter().find(|(known, _)| *known == service.name).unwrap();
            for method in service.methods {
                assert!(paths.iter().any(|(_, name)| *name == method.name), "{}/{} has no path", service.name, method.name);
            }
        }
        assert!(find("/v3beta/kv/range").is_some());
        assert!(find("/v3/kv").is_none() && find("/v2/kv/range").is_none());
    }
}
