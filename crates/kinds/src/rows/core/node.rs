//! Node.

use api::core::v1::Node;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for Node {
    const INFO: KindInfo = KindInfo {
        singular: "node",
        short_names: &["no"],
        scope: Scope::Cluster,
        subresources: &[
            Subresource {
                name: "proxy",
                kind: Some(("", "v1", "NodeProxyOptions")),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource::STATUS,
        ],
        storage_prefix: "minions",
        schema: "io.k8s.api.core.v1.Node",
        ..KindInfo::of::<Self>()
    };
}
