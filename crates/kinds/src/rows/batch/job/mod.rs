//! Job.

pub(super) mod validate;

use api::batch::v1::{Job, JobSpec};
use api::meta::v1::LabelSelector;
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{self, set, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, age, column, containers, human_duration, name, selector, wide};
use crate::rows::hooks::spec_and_status;

impl Kind for Job {
    const INFO: KindInfo = KindInfo {
        singular: "job",
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.batch.v1.Job",
        has_generation: true,
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        let spec = self.spec.get_or_insert_default();
        default_spec(spec);
        let labels = spec.template.metadata.as_ref().and_then(|meta| meta.labels.clone());
        if self.metadata.labels.as_ref().is_none_or(|own| own.is_empty()) && labels.as_ref().is_some_and(|labels| !labels.is_empty()) {
            self.metadata.labels = labels;
        }
        self.status.get_or_insert_default();
    }

    /// The selector of a job is its uid: metadata is complete before this runs.
    fn prepare_create(&mut self) {
        self.status = Some(Default::default());
        if let Some(uid) = self.metadata.uid.clone() {
            let name = self.metadata.name.clone().unwrap_or_default();
            generate_selector(self.spec.get_or_insert_default(), &name, &uid);
        }
    }

    spec_and_status!(updates);

    fn validate(&self, errors: &mut FieldErrors) {
        let none = JobSpec::default();
        validate::spec(errors, &Path::new("spec"), self.spec.as_ref().unwrap_or(&none), true);
    }

    fn validate_update(&self, old: &Self, errors: &mut FieldErrors) {
        validate::update(self, old, errors);
    }

    fn selectable_fields(&self) -> Vec<(&'static str, String)> {
        let succeeded = self.status.as_ref().and_then(|status| status.succeeded).unwrap_or(0);
        vec![("status.successful", succeeded.to_string())]
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Status", "string"),
                column("Completions", "string"),
                column("Duration", "string"),
                AGE,
                wide("Containers", "string"),
                wide("Images", "string"),
                wide("Selector", "string"),
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (self.spec.clone().unwrap_or_default(), self.status.clone().unwrap_or_default());
        let [names, images] = containers(&spec.template.spec.unwrap_or_default().containers);
        let succeeded = status.succeeded.unwrap_or(0);
        let completions = match (spec.completions, spec.parallelism.unwrap_or(0)) {
            (Some(completions), _) => format!("{succeeded}/{completions}"),
            (None, parallelism) if parallelism > 1 => format!("{succeeded}/1 of {parallelism}"),
            (None, _) => format!("{succeeded}/1"),
        };
        let duration = status.start_time.as_ref().map_or_else(String::new, |start| {
            let end = status.completion_time.as_ref().map_or(now, |end| end.0);
            human_duration(end.as_second() - start.0.as_second())
        });
        vec![
            name(&self.metadata),
            json!(state(self)),
            json!(completions),
            json!(duration),
            age(&self.metadata, now),
            names,
            images,
            json!(selector(spec.selector.as_ref())),
        ]
    }
}

fn state(job: &Job) -> &'static str {
    let conditions = job.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let is = |type_: &str| conditions.iter().any(|condition| condition.type_ == type_ && condition.status == "True");
    match () {
        () if is("Complete") => "Complete",
        () if is("Failed") => "Failed",
        () if job.metadata.deletion_timestamp.is_some() => "Terminating",
        () if is("Suspended") => "Suspended",
        () if is("FailureTarget") => "FailureTarget",
        () if is("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

/// Defaults of a job's spec, in a Job or in a CronJob's template (pkg/apis/batch/v1/defaults.go).
pub fn default_spec(spec: &mut JobSpec) {
    if spec.completions.is_none() && spec.parallelism.is_none() {
        spec.completions = Some(1);
    }
    set(&mut spec.parallelism, 1);
    set(&mut spec.backoff_limit, if spec.backoff_limit_per_index.is_some() { i32::MAX } else { 6 });
    set_text(&mut spec.completion_mode, "NonIndexed");
    set(&mut spec.suspend, false);
    set(&mut spec.manual_selector, false);
    let replacement = if spec.pod_failure_policy.is_some() { "Failed" } else { "TerminatingOrFailed" };
    set_text(&mut spec.pod_replacement_policy, replacement);
    for rule in spec.pod_failure_policy.iter_mut().flat_map(|policy| &mut policy.rules) {
        for pattern in rule.on_pod_conditions.iter_mut().flatten() {
            set_text(&mut pattern.status, "True");
        }
    }
    defaults::pod_template(&mut spec.template);
}

/// pkg/registry/batch/job/strategy.go: generateSelector.
fn generate_selector(spec: &mut JobSpec, name: &str, uid: &str) {
    if spec.manual_selector == Some(true) {
        return;
    }
    let labels = spec.template.metadata.get_or_insert_default().labels.get_or_insert_default();
    for (key, value) in
        [("controller-uid", uid), ("batch.kubernetes.io/controller-uid", uid), ("job-name", name), ("batch.kubernetes.io/job-name", name)]
    {
        labels.insert(key.to_owned(), value.to_owned());
    }
    let selector = spec.selector.get_or_insert_with(LabelSelector::default);
    let pairs = selector.match_labels.get_or_insert_default();
    pairs.entry("batch.kubernetes.io/controller-uid".into()).or_insert_with(|| uid.to_owned());
}
