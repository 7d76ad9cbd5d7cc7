//! A HorizontalPodAutoscaler between v2, which is stored, and v1. What v1 has no field for goes into annotations and comes back from there
//! (pkg/apis/autoscaling/v1/conversion.go). Must lose nothing on the way.

use api::autoscaling::v2::{HorizontalPodAutoscalerBehavior, HorizontalPodAutoscalerCondition, MetricSpec, MetricStatus};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const ANNOTATIONS: [&str; 4] = [METRICS, CURRENT_METRICS, CONDITIONS, BEHAVIOR];

/// Of v1 without any metric.
const DEFAULT_CPU_PERCENT: i32 = 80;

type Object = Map<String, Value>;

/// Metrics that are wanted or metrics as they are: the same forms under other names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Target,
    Current,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Self::Target => "target",
            Self::Current => "current",
        }
    }
}

/// v2 to v1.
pub fn to_v1(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v1".into();
    let mut notes: Vec<(&str, String)> = Vec::new();
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let metrics = take_list(spec, "metrics");
        if let Some(percent) = metrics.iter().find(|m| is_cpu(m)).and_then(|m| percent(m, Side::Target)).cloned() {
            spec.insert("targetCPUUtilizationPercentage".into(), percent);
        }
        let others: Vec<Value> =
            metrics.iter().filter(|m| !is_cpu(m) || percent(m, Side::Target).is_none()).map(|m| metric_to_v1(m, Side::Target)).collect();
        if !others.is_empty() {
            notes.push((METRICS, Value::from(others).to_string()));
        }
        if let Some(behavior) = spec.remove("behavior") {
            notes.push((BEHAVIOR, recased(behavior, char::to_ascii_uppercase).to_string()));
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        // Go writes it in v1 always, in v2 only where it is not zero.
        status.entry("currentReplicas").or_insert_with(|| 0.into());
        let metrics = take_list(status, "currentMetrics");
        if let Some(percent) = metrics.iter().filter(|m| is_cpu(m)).filter_map(|m| percent(m, Side::Current)).next_back() {
            status.insert("currentCPUUtilizationPercentage".into(), percent.clone());
        }
        if !metrics.is_empty() {
            let metrics: Vec<Value> = metrics.iter().map(|m| metric_to_v1(m, Side::Current)).collect();
            notes.push((CURRENT_METRICS, Value::from(metrics).to_string()));
        }
        let conditions = take_list(status, "conditions");
        if !conditions.is_empty() {
            notes.push((CONDITIONS, Value::from(conditions).to_string()));
        }
    }
    take_annotations(&mut object);
    for (name, text) in notes {
        object["metadata"]["annotations"][name] = text.into();
    }
    object
}

/// v1 to v2. Annotations that do not hold what they should are dropped, as upstream drops them.
pub fn to_v2(mut object: Value) -> Value {
    object["apiVersion"] = "autoscaling/v2".into();
    let notes = take_annotations(&mut object);
    let noted = |name: &str| notes.get(name).and_then(Value::as_str).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let metrics_of = |name: &str, side: Side| {
        let list = noted(name)?;
        list.as_array()?.iter().map(|metric| metric_to_v2(metric, side)).collect::<Option<Vec<_>>>().map(Value::from)
    };
    if let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) {
        let mut metrics: Vec<Value> = spec.remove("targetCPUUtilizationPercentage").map(|p| cpu(p, Side::Target)).into_iter().collect();
        if let Some(Value::Array(others)) = metrics_of(METRICS, Side::Target).and_then(typed::<Vec<MetricSpec>>) {
            metrics.extend(others);
        }
        if metrics.is_empty() {
            metrics.push(cpu(DEFAULT_CPU_PERCENT.into(), Side::Target));
        }
        spec.insert("metrics".into(), metrics.into());
        let behavior = noted(BEHAVIOR).map(|b| recased(b, char::to_ascii_lowercase));
        if let Some(behavior) = behavior.and_then(typed::<HorizontalPodAutoscalerBehavior>) {
            spec.insert("behavior".into(), behavior);
        }
    }
    if let Some(status) = object.get_mut("status").and_then(Value::as_object_mut) {
        if status.get("currentReplicas").and_then(Value::as_i64) == Some(0) {
            status.remove("currentReplicas");
        }
        let own = status.remove("currentCPUUtilizationPercentage").map(|p| Value::from(vec![cpu(p, Side::Current)]));
        // The annotation knows more than the one field.
        if let Some(metrics) = metrics_of(CURRENT_METRICS, Side::Current).and_then(typed::<Vec<MetricStatus>>).or(own) {
            status.insert("currentMetrics".into(), metrics);
        }
        if let Some(conditions) = noted(CONDITIONS).and_then(typed::<Vec<HorizontalPodAutoscalerCondition>>) {
            status.insert("conditions".into(), conditions);
        }
    }
    object
}

/// The value with just what the type has; `None`: it is none of the type.
fn typed<T: DeserializeOwned + Serialize>(value: Value) -> Option<Value> {
    serde_json::to_value(serde_json::from_value::<T>(value).ok()?).ok()
}

fn take_list(from: &mut Object, name: &str) -> Vec<Value> {
    match from.remove(name) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// Removes the annotations that are only there for conversion; gives what they were.
fn take_annotations(object: &mut Value) -> Object {
    let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return Object::new() };
    let Some(annotations) = meta.get_mut("annotations").and_then(Value::as_object_mut) else { return Object::new() };
    let taken = ANNOTATIONS.iter().filter_map(|name| annotations.remove_entry(*name)).collect();
    if annotations.is_empty() {
        meta.remove("annotations");
    }
    taken
}

/// A metric of the CPU of whole pods, in v2.
fn is_cpu(metric: &Value) -> bool {
    metric["type"] == "Resource" && metric["resource"]["name"] == "cpu"
}

fn percent(metric: &Value, side: Side) -> Option<&Value> {
    metric["resource"][side.word()].get("averageUtilization").filter(|percent| !percent.is_null())
}

fn cpu(percent: Value, side: Side) -> Value {
    let mut amount = json!({"averageUtilization": percent});
    if side == Side::Target {
        amount["type"] = "Utilization".into();
    }
    json!({"type": "Resource", "resource": {"name": "cpu", side.word(): amount}})
}

/// Names in v1 with their places in v2, of one source of metrics.
fn places(source: &str, side: Side) -> Vec<(String, Vec<&'static str>)> {
    let word = side.word();
    let own = |name: &'static str| (name.to_owned(), vec![name]);
    let amount = |name: &'static str| {
        let (first, rest) = name.split_at(1);
        (format!("{word}{}{rest}", first.to_ascii_uppercase()), vec![word, name])
    };
    let metric = || ("metricName".to_owned(), vec!["metric", "name"]);
    let selector = |name: &str| (name.to_owned(), vec!["metric", "selector"]);
    match source {
        "resource" => vec![own("name"), amount("averageUtilization"), amount("averageValue")],
        "containerResource" => vec![own("container"), own("name"), amount("averageUtilization"), amount("averageValue")],
        "pods" => vec![metric(), selector("selector"), amount("averageValue")],
        "object" => vec![
            ("target".to_owned(), vec!["describedObject"]),
            metric(),
            selector("selector"),
            amount("value"),
            ("averageValue".to_owned(), vec![word, "averageValue"]),
        ],
        "external" => vec![metric(), selector("metricSelector"), amount("value"), amount("averageValue")],
        _ => Vec::new(),
    }
}

/// The field that a metric's type names: `containerResource` of `ContainerResource`.
fn source_of(metric: &Value) -> String {
    with_first(metric["type"].as_str().unwrap_or_default(), char::to_ascii_lowercase)
}

fn metric_to_v1(metric: &Value, side: Side) -> Value {
    let source = source_of(metric);
    let mut out = Object::new();
    for (name, place) in places(&source, side) {
        let found = place.iter().try_fold(&metric[&source], |value, step| value.get(step));
        if let Some(value) = found {
            out.insert(name, value.clone());
        }
    }
    json!({"type": metric["type"], source: out})
}

/// `None`: it is no metric.
fn metric_to_v2(metric: &Value, side: Side) -> Option<Value> {
    let source = source_of(metric);
    let fields = metric.get(&source)?.as_object()?;
    let mut out = json!({});
    for (name, place) in places(&source, side) {
        let Some(value) = fields.get(&name).filter(|v| !v.is_null()) else { continue };
        match place.as_slice() {
            [field] => out[*field] = value.clone(),
            [outer, inner] => out[*outer][*inner] = value.clone(),
            _ => {}
        }
    }
    if side == Side::Target {
        let amounts = &out["target"];
        let kinds = [("averageUtilization", "Utilization"), ("averageValue", "AverageValue"), ("value", "Value")];
        let kind = kinds.iter().find(|(field, _)| amounts.get(field).is_some()).map_or("", |(_, kind)| kind);
        out["target"]["type"] = kind.into();
    }
    Some(json!({"type": metric["type"], source: out}))
}

fn with_first(text: &str, case: impl Fn(&char) -> char) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| case(&first)).into_iter().chain(letters).collect()
}

/// The behavior annotation holds upstream's internal type, whose names begin with capitals. Nulls go.
fn recased(value: Value, case: impl Fn(&char) -> char + Copy) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(name, value)| (with_first(&name, case), recased(value, case))).collect()
        }
        Value::Array(items) => items.into_iter().map(|item| recased(item, case)).collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored() -> Value {
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": "a", "annotations": {"own": "1"}},
            "spec": {
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}, "minReplicas": 1, "maxReplicas": 5,
                "metrics": [
                    {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 50}}},
                    {"type": "Resource", "resource": {"name": "memory", "target": {"type": "AverageValue", "averageValue": "1Gi"}}},
                    {"type": "Pods", "pods": {"metric": {"name": "rps"}, "target": {"type": "AverageValue", "averageValue": "7"}}},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Ingress", "name": "i"}, "metric": {"name": "hits", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "Value", "value": "9"}}},
                    {"type": "External", "external": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "3"}}},
                    {"type": "ContainerResource", "containerResource": {
                        "name": "cpu", "container": "c", "target": {"type": "Utilization", "averageUtilization": 60}}},
                ],
                "behavior": {"scaleDown": {"stabilizationWindowSeconds": 5, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 9}]}},
            },
            "status": {
                "currentReplicas": 2, "desiredReplicas": 3,
                "currentMetrics": [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": 44, "averageValue": "2"}}}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        })
    }

    #[test]
    fn v1_has_the_cpu_and_notes_the_rest() {
        let v1 = to_v1(stored());
        assert_eq!((&v1["apiVersion"], &v1["spec"]["targetCPUUtilizationPercentage"]), (&json!("autoscaling/v1"), &json!(50)));
        assert_eq!(v1["status"], json!({"currentReplicas": 2, "desiredReplicas": 3, "currentCPUUtilizationPercentage": 44}));
        assert_eq!((v1["spec"].get("metrics"), v1["spec"].get("behavior")), (None, None));
        let note = |name: &str| serde_json::from_str::<Value>(v1["metadata"]["annotations"][name].as_str().unwrap()).unwrap();
        assert_eq!(note(METRICS)[0], json!({"type": "Resource", "resource": {"name": "memory", "targetAverageValue": "1Gi"}}));
        assert_eq!(note(METRICS)[1], json!({"type": "Pods", "pods": {"metricName": "rps", "targetAverageValue": "7"}}));
        assert_eq!(note(METRICS)[2]["object"]["target"], json!({"kind": "Ingress", "name": "i"}));
        let current = json!({"name": "cpu", "currentAverageUtilization": 44, "currentAverageValue": "2"});
        assert_eq!(note(CURRENT_METRICS), json!([{"type": "Resource", "resource": current}]));
        let policy = json!({"Type": "Pods", "Value": 1, "PeriodSeconds": 9});
        assert_eq!(note(BEHAVIOR), json!({"ScaleDown": {"StabilizationWindowSeconds": 5, "Policies": [policy]}}));
        let typed: api::autoscaling::v1::HorizontalPodAutoscaler = serde_json::from_value(v1.clone()).unwrap();
        assert_eq!(serde_json::to_value(typed).unwrap()["spec"], v1["spec"]);
    }

    #[test]
    fn nothing_is_lost_on_the_way() {
        assert_eq!(to_v2(to_v1(stored())), stored());
        let bare = json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 5, "metrics": [cpu(80.into(), Side::Target)]}, "status": {"desiredReplicas": 0},
        });
        assert_eq!(to_v2(to_v1(bare.clone())), bare);
    }

    #[test]
    fn v1_without_metrics_means_the_default() {
        let v2 = to_v2(json!({"apiVersion": "autoscaling/v1", "metadata": {}, "spec": {"maxReplicas": 2}}));
        assert_eq!(v2["spec"]["metrics"], json!([cpu(80.into(), Side::Target)]));
    }

    #[test]
    fn annotations_of_another_shape_are_dropped() {
        let check = |name: &str, text: &str| {
            let v1 = json!({
                "apiVersion": "autoscaling/v1", "metadata": {"annotations": {name: text}},
                "spec": {"targetCPUUtilizationPercentage": 5}, "status": {},
            });
            let v2 = to_v2(v1);
            assert_eq!(v2["spec"], json!({"metrics": [cpu(5.into(), Side::Target)]}), "{name} {text}");
            assert_eq!((&v2["status"], &v2["metadata"]), (&json!({}), &json!({})), "{name} {text}");
        };
        check(METRICS, r#"[{"type":"Pods","pods":5}]"#);
        for name in ANNOTATIONS {
            for text in ["", "{", "7", r#"[{"type":5,"pods":5}]"#, r#"[5]"#, r#""x""#] {
                check(name, text);
            }
        }
    }
}
