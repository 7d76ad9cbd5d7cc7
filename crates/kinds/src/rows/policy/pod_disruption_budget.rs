//! PodDisruptionBudget.

use api::policy::v1::PodDisruptionBudget;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for PodDisruptionBudget {
    const INFO: KindInfo = KindInfo {
        singular: "poddisruptionbudget",
        short_names: &["pdb"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.policy.v1.PodDisruptionBudget",
        has_generation: true,
        unconditional_update: false,
        ..KindInfo::of::<Self>()
    };
}
