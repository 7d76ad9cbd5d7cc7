//! HorizontalPodAutoscaler of v2: it owns the bytes that v1 shows too.

use api::autoscaling::v2::{
    CrossVersionObjectReference, HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec,
    HorizontalPodAutoscalerStatus, MetricSpec, MetricTarget, MetricValueStatus, ResourceMetricSource,
};
use api::{FieldErrors, Path};
use serde_json::{Value, json};

use crate::defaults::{set, set_text};
use crate::kind::{Column, Kind, KindInfo, Subresource};
use crate::printing::{AGE, NAME, NONE, UNKNOWN, UNSET, age, column, name};
use crate::rows::hooks::spec_and_status;
use crate::validation::{POSITIVE, not_supported_sorted, one_of, required, required_text};

impl Kind for HorizontalPodAutoscaler {
    const INFO: KindInfo = KindInfo {
        singular: "horizontalpodautoscaler",
        short_names: &["hpa"],
        categories: &["all"],
        subresources: &[Subresource::STATUS],
        schema: "io.k8s.api.autoscaling.v2.HorizontalPodAutoscaler",
        ..KindInfo::of::<Self>()
    };

    fn default_fields(&mut self) {
        default_spec(&mut self.spec);
        self.status.get_or_insert_default();
    }

    spec_and_status!();

    fn validate(&self, errors: &mut FieldErrors) {
        spec_rules(errors, &Path::new("spec"), &self.spec);
    }

    fn columns() -> &'static [Column] {
        const {
            &[
                NAME,
                column("Reference", "string"),
                column("Targets", "string"),
                column("MinPods", "string"),
                column("MaxPods", "integer"),
                column("Replicas", "integer"),
                AGE,
            ]
        }
    }

    fn cells(&self, now: jiff::Timestamp) -> Vec<Value> {
        let (spec, status) = (&self.spec, self.status.clone().unwrap_or_default());
        let target = &spec.scale_target_ref;
        vec![
            name(&self.metadata),
            json!(format!("{}/{}", target.kind, target.name)),
            json!(targets(spec.metrics.as_deref().unwrap_or_default(), &status)),
            json!(spec.min_replicas.map_or_else(|| UNSET.to_owned(), |count| count.to_string())),
            json!(spec.max_replicas),
            json!(status.current_replicas.unwrap_or(0)),
            age(&self.metadata, now),
        ]
    }
}

/// pkg/apis/autoscaling/v2/defaults.go.
fn default_spec(spec: &mut HorizontalPodAutoscalerSpec) {
    set(&mut spec.min_replicas, 1);
    if spec.metrics.as_ref().is_none_or(Vec::is_empty) {
        let target = MetricTarget { type_: "Utilization".into(), average_utilization: Some(80), ..MetricTarget::default() };
        let resource = Some(ResourceMetricSource { name: "cpu".into(), target });
        spec.metrics = Some(vec![MetricSpec { type_: "Resource".into(), resource, ..MetricSpec::default() }]);
    }
    for target in spec.metrics.iter_mut().flatten().filter_map(target_mut) {
        for amount in [&mut target.average_value, &mut target.value].into_iter().flatten() {
            api::quantity::canonicalize(amount);
        }
    }
    let Some(behavior) = &mut spec.behavior else { return };
    let percent = || HPAScalingPolicy { type_: "Percent".into(), value: 100, period_seconds: 15 };
    let pods = || HPAScalingPolicy { type_: "Pods".into(), value: 4, period_seconds: 15 };
    let up = behavior.scale_up.get_or_insert_default();
    set(&mut up.stabilization_window_seconds, 0);
    default_rules(up, vec![pods(), percent()]);
    default_rules(behavior.scale_down.get_or_insert_default(), vec![percent()]);
}

fn default_rules(rules: &mut HPAScalingRules, policies: Vec<HPAScalingPolicy>) {
    set_text(&mut rules.select_policy, "Max");
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        rules.policies = Some(policies);
    }
}

fn target_mut(metric: &mut MetricSpec) -> Option<&mut MetricTarget> {
    let object = metric.object.as_mut().map(|source| &mut source.target);
    let pods = metric.pods.as_mut().map(|source| &mut source.target);
    let resource = metric.resource.as_mut().map(|source| &mut source.target);
    let container = metric.container_resource.as_mut().map(|source| &mut source.target);
    let external = metric.external.as_mut().map(|source| &mut source.target);
    object.or(pods).or(resource).or(container).or(external)
}

fn spec_rules(errors: &mut FieldErrors, path: &Path, spec: &HorizontalPodAutoscalerSpec) {
    let min = spec.min_replicas.unwrap_or(1);
    if min < 1 {
        errors.invalid(&path.child("minReplicas"), min, "must be greater than or equal to 1");
    }
    if spec.max_replicas < 1 {
        errors.invalid(&path.child("maxReplicas"), spec.max_replicas, POSITIVE);
    }
    if spec.max_replicas < min {
        errors.invalid(&path.child("maxReplicas"), spec.max_replicas, "must be greater than or equal to `minReplicas`");
    }
    reference(errors, &path.child("scaleTargetRef"), &spec.scale_target_ref);
    for (index, metric) in spec.metrics.iter().flatten().enumerate() {
        metric_rules(errors, &path.child("metrics").index(index), metric);
    }
    if let Some(behavior) = &spec.behavior {
        let path = path.child("behavior");
        for (field, rules) in [("scaleUp", &behavior.scale_up), ("scaleDown", &behavior.scale_down)] {
            if let Some(rules) = rules {
                scaling_rules(errors, &path.child(field), rules);
            }
        }
    }
}

fn reference(errors: &mut FieldErrors, path: &Path, target: &CrossVersionObjectReference) {
    required_text(errors, &path.child("kind"), &target.kind, api::names::path_segment);
    required_text(errors, &path.child("name"), &target.name, api::names::path_segment);
}

const SOURCES: &[&str] = &["ContainerResource", "External", "Object", "Pods", "Resource"];

fn metric_rules(errors: &mut FieldErrors, path: &Path, metric: &MetricSpec) {
    required(errors, &path.child("type"), &metric.type_, "must specify a metric source type");
    if !metric.type_.is_empty() && !SOURCES.contains(&metric.type_.as_str()) {
        not_supported_sorted(errors, &path.child("type"), &metric.type_, SOURCES);
    }
    let given = [
        ("ContainerResource", "containerResource", metric.container_resource.is_some()),
        ("External", "external", metric.external.is_some()),
        ("Object", "object", metric.object.is_some()),
        ("Pods", "pods", metric.pods.is_some()),
        ("Resource", "resource", metric.resource.is_some()),
    ];
    for (type_, field, there) in given {
        let expected = metric.type_ == type_;
        if expected && !there {
            errors.required(&path.child(field), "must populate information for the given metric source");
        } else if !expected && there {
            errors.forbidden(&path.child(field), "must populate the given metric source only");
        }
    }
    let mut copy = metric.clone();
    if let Some(target) = target_mut(&mut copy) {
        one_of(errors, &path.child("target").child("type"), Some(&target.type_), &["Utilization", "Value", "AverageValue"]);
        for (field, amount) in [("value", &target.value), ("averageValue", &target.average_value)] {
            let Some(amount) = amount else { continue };
            if api::quantity::parse(&amount.0).map_or(true, |amount| amount.sign() != 1) {
                errors.invalid(&path.child("target").child(field), &amount.0, "must be positive");
            }
        }
        if let Some(percent) = target.average_utilization.filter(|percent| *percent < 1) {
            errors.invalid(&path.child("target").child("averageUtilization"), percent, POSITIVE);
        }
    }
}

fn scaling_rules(errors: &mut FieldErrors, path: &Path, rules: &HPAScalingRules) {
    if let Some(seconds) = rules.stabilization_window_seconds.filter(|seconds| !(0..=3600).contains(seconds)) {
        let detail = if seconds < 0 { "must be greater than or equal to zero" } else { "must be less than or equal to 3600" };
        errors.invalid(&path.child("stabilizationWindowSeconds"), seconds, detail);
    }
    crate::validation::one_of_present(errors, &path.child("selectPolicy"), rules.select_policy.as_deref(), &["Disabled", "Max", "Min"]);
    let policies = rules.policies.as_deref().unwrap_or_default();
    if policies.is_empty() {
        errors.required(&path.child("policies"), "must specify at least one Policy");
    }
    for (index, policy) in policies.iter().enumerate() {
        let path = path.child("policies").index(index);
        one_of(errors, &path.child("type"), Some(&policy.type_), &["Percent", "Pods"]);
        if policy.value <= 0 {
            errors.invalid(&path.child("value"), policy.value, "must be greater than zero");
        }
        if !(1..=1800).contains(&policy.period_seconds) {
            let detail = if policy.period_seconds < 1 { "must be greater than zero" } else { "must be less than or equal to 1800" };
            errors.invalid(&path.child("periodSeconds"), policy.period_seconds, detail);
        }
    }
}

/// `cpu: 10%/80%, 100m/1 + 2 more...` (pkg/printers/internalversion/printers.go: formatHPAMetrics).
fn targets(metrics: &[MetricSpec], status: &HorizontalPodAutoscalerStatus) -> String {
    const MAX: usize = 2;
    if metrics.is_empty() {
        return NONE.to_owned();
    }
    let current = status.current_metrics.as_deref().unwrap_or_default();
    let all: Vec<String> = metrics
        .iter()
        .enumerate()
        .map(|(index, metric)| {
            let status = current.get(index);
            match metric.type_.as_str() {
                "Resource" => metric.resource.as_ref().map(|source| {
                    let value = status.and_then(|status| status.resource.as_ref()).map(|status| &status.current);
                    format!("{}: {}", source.name, pair(&source.target, value))
                }),
                "ContainerResource" => metric.container_resource.as_ref().map(|source| {
                    let value = status.and_then(|status| status.container_resource.as_ref()).map(|status| &status.current);
                    format!("{}: {}", source.name, pair(&source.target, value))
                }),
                "Pods" => metric
                    .pods
                    .as_ref()
                    .map(|source| pair(&source.target, status.and_then(|status| status.pods.as_ref()).map(|status| &status.current))),
                "Object" => metric.object.as_ref().map(|source| {
                    let value = status.and_then(|status| status.object.as_ref()).map(|status| &status.current);
                    averaged(&source.target, value)
                }),
                "External" => metric.external.as_ref().map(|source| {
                    let value = status.and_then(|status| status.external.as_ref()).map(|status| &status.current);
                    averaged(&source.target, value)
                }),
                _ => None,
            }
            .unwrap_or_else(|| "<unknown type>".to_owned())
        })
        .collect();
    let shown = all.iter().take(MAX).cloned().collect::<Vec<_>>().join(", ");
    if all.len() > MAX { format!("{shown} + {} more...", all.len() - MAX) } else { shown }
}

fn averaged(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    let text = pair(target, current);
    if target.average_value.is_some() { format!("{text} (avg)") } else { text }
}

fn pair(target: &MetricTarget, current: Option<&MetricValueStatus>) -> String {
    let (now, wanted) = if let Some(amount) = &target.average_value {
        (current.and_then(|current| current.average_value.as_ref()).map(|amount| amount.0.clone()), amount.0.clone())
    } else if let Some(amount) = &target.value {
        (current.and_then(|current| current.value.as_ref()).map(|amount| amount.0.clone()), amount.0.clone())
    } else {
        let percent = |value: i32| format!("{value}%");
        let wanted = target.average_utilization.map_or_else(|| "<auto>".to_owned(), percent);
        (current.and_then(|current| current.average_utilization).map(percent), wanted)
    };
    format!("{}/{wanted}", now.unwrap_or_else(|| UNKNOWN.to_owned()))
}
