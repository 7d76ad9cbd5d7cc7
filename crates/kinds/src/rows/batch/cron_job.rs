//! CronJob.

use api::batch::v1::CronJob;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use super::{job, schedule};
use crate::defaults::{set, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, NONE, UNSET, age, bool_or, column, containers, name, selector, since, wide};
use crate::rows::hooks::spec_and_status;
use crate::validation::{metadata, not_negative_opt, one_of};

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

    fn default_fields(&mut self) {
        let spec = &mut self.spec;
        set_text(&mut spec.concurrency_policy, "Allow");
        set(&mut spec.suspend, false);
        set(&mut spec.successful_jobs_history_limit, 3);
        set(&mut spec.failed_jobs_history_limit, 1);
        spec.job_template.metadata.get_or_insert_default();
        let job_spec = spec.job_template.spec.get_or_insert_default();
        job::default_spec(job_spec);
        // Jobs decide that for themselves when they are made.
        job_spec.manual_selector = job_spec.manual_selector.filter(|manual| *manual);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        // Jobs get an 11-character suffix and must fit into a label.
        if self.metadata.name.as_deref().unwrap_or_default().len() > 52 {
            let name = self.metadata.name.as_deref().unwrap_or_default();
            errors.invalid(&Path::new("metadata").child("name"), name, "must be no more than 52 characters");
        }
        let (path, spec) = (Path::new("spec"), &self.spec);
        if spec.schedule.is_empty() {
            errors.required(&path.child("schedule"), "");
        } else {
            schedule::validate(errors, &path.child("schedule"), &spec.schedule, spec.time_zone.is_some());
        }
        schedule::validate_time_zone(errors, &path.child("timeZone"), spec.time_zone.as_deref());
        not_negative_opt(errors, &path.child("startingDeadlineSeconds"), spec.starting_deadline_seconds);
        one_of(errors, &path.child("concurrencyPolicy"), spec.concurrency_policy.as_deref(), &["Allow", "Forbid", "Replace"]);
        not_negative_opt(errors, &path.child("successfulJobsHistoryLimit"), spec.successful_jobs_history_limit);
        not_negative_opt(errors, &path.child("failedJobsHistoryLimit"), spec.failed_jobs_history_limit);
        let template_path = path.child("jobTemplate");
        if let Some(meta) = &spec.job_template.metadata {
            metadata::labels(meta.labels.as_ref(), &template_path.child("metadata").child("labels"), errors);
            metadata::annotations(meta.annotations.as_ref(), &template_path.child("metadata").child("annotations"), errors);
        }
        if let Some(job) = &spec.job_template.spec {
            job::validate::spec(errors, &template_path.child("spec"), job, false);
        }
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Schedule", "string"),
                column("Timezone", "string"),
                column("Suspend", "boolean"),
                column("Active", "integer"),
                column("Last Schedule", "string"),
                AGE,
                wide("Containers", "string"),
                wide("Images", "string"),
                wide("Selector", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let status = self.status.clone().unwrap_or_default();
        let job = self.spec.job_template.spec.clone().unwrap_or_default();
        let [names, images] = containers(&job.template.spec.unwrap_or_default().containers);
        let last = status.last_schedule_time.as_ref().map_or_else(|| NONE.to_owned(), |time| since(Some(time), now));
        vec![
            name(&self.metadata),
            json!(self.spec.schedule),
            json!(self.spec.time_zone.as_deref().unwrap_or(NONE)),
            json!(bool_or(self.spec.suspend, UNSET)),
            json!(status.active.map_or(0, |active| active.len())),
            json!(last),
            age(&self.metadata, now),
            names,
            images,
            json!(selector(job.selector.as_ref())),
        ]
    }
}
