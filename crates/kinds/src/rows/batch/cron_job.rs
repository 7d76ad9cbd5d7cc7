//! CronJob.

use api::batch::v1::CronJob;

use crate::kind::{Kind, KindInfo, Subresource};

impl Kind for CronJob {
    const INFO: KindInfo = KindInfo {
        singular: "cronjob",
        short_names: &["cj"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.batch.v1.CronJob",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };
}
