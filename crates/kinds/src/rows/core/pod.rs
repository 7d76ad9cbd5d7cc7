//! Pod.

use api::core::v1::Pod;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for Pod {
    const INFO: KindInfo = KindInfo {
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            Subresource { name: "attach", kind: Some(("", "v1", "PodAttachOptions")), verbs: &["create", "get"] },
            Subresource { name: "binding", kind: Some(("", "v1", "Binding")), verbs: &["create"] },
            Subresource { name: "ephemeralcontainers", kind: None, verbs: &["get", "patch", "update"] },
            Subresource { name: "eviction", kind: Some(("policy", "v1", "Eviction")), verbs: &["create"] },
            Subresource { name: "exec", kind: Some(("", "v1", "PodExecOptions")), verbs: &["create", "get"] },
            Subresource { name: "log", kind: None, verbs: &["get"] },
            Subresource { name: "portforward", kind: Some(("", "v1", "PodPortForwardOptions")), verbs: &["create", "get"] },
            Subresource {
                name: "proxy",
                kind: Some(("", "v1", "PodProxyOptions")),
                verbs: &["create", "delete", "get", "patch", "update"],
            },
            Subresource { name: "resize", kind: None, verbs: &["get", "patch", "update"] },
            Subresource::STATUS,
        ],
        schema: "io.k8s.api.core.v1.Pod",
        has_generation: true,
        graceful_delete: true,
        ..KindInfo::of::<Self>()
    };
}
