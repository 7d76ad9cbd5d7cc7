//! Job.

use api::batch::v1::Job;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for Job {
    const INFO: KindInfo = KindInfo {
        singular: "job",
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.batch.v1.Job",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
