//! APIService.

use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;

use crate::kind::{Kind, KindInfo, NameRule, Scope, Subresource};

impl Kind for APIService {
    const INFO: KindInfo = KindInfo {
        singular: "apiservice",
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        storage_prefix: "apiregistration.k8s.io/apiservices",
        schema: "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService",
        name_rule: NameRule::PathSegment,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
