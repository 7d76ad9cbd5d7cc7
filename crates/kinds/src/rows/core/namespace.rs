//! Namespace.

use api::core::v1::Namespace;

use crate::kind::{Kind, KindInfo, NameRule, Scope, Subresource};

impl Kind for Namespace {
    const INFO: KindInfo = KindInfo {
        singular: "namespace",
        short_names: &["ns"],
        scope: Scope::Cluster,
        verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
        subresources: &[Subresource { name: "finalize", kind: None, verbs: &["update"] }, Subresource::STATUS],
        schema: "io.k8s.api.core.v1.Namespace",
        name_rule: NameRule::DnsLabel,
        ..KindInfo::of::<Self>()
    };
}
