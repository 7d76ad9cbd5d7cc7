//! CustomResourceDefinition.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use crate::kind::{Kind, KindInfo, Scope, Subresource};

impl Kind for CustomResourceDefinition {
    const INFO: KindInfo = KindInfo {
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        scope: Scope::Cluster,
        subresources: &[Subresource::STATUS],
        storage_prefix: "apiextensions.k8s.io/customresourcedefinitions",
        schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
