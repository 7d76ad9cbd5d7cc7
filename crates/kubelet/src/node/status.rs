//! The node's conditions and images as values. Pure (pkg/kubelet/nodestatus/setters.go).

use api::core::v1::{ContainerImage, NodeCondition};
use k8s_cri::v1 as pb;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::eviction::Pressure;

/// Upstream's nodeStatusMaxImages.
const MAX_IMAGES: usize = 50;

/// Everything that can keep a node from being ready; empty is ready.
pub fn problems(runtime: &Result<pb::StatusResponse, String>, pleg: &Result<(), String>) -> Vec<String> {
    let mut out = Vec::new();
    match runtime {
        Err(cause) => out.push(format!("container runtime is down: {cause}")),
        Ok(status) => {
            let conditions = status.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            for (name, text) in [("RuntimeReady", "container runtime not ready"), ("NetworkReady", "container runtime network not ready")] {
                match conditions.iter().find(|condition| condition.r#type == name) {
                    Some(condition) if condition.status => {}
                    Some(condition) => {
                        out.push(format!("{text}: {name}=false reason:{} message:{}", condition.reason, condition.message));
                    }
                    None => out.push(format!("{text}: the runtime does not tell {name}")),
                }
            }
        }
    }
    if let Err(cause) = pleg {
        out.push(format!("PLEG is not healthy: {cause}"));
    }
    out
}

/// The conditions in upstream's order; times of what did not change stay.
pub fn conditions(old: &[NodeCondition], pressure: Pressure, problems: &[String], now: &Time) -> Vec<NodeCondition> {
    let ready = if problems.is_empty() {
        ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned())
    } else {
        ("Ready", false, "KubeletNotReady", format_list(problems))
    };
    let pick = |type_, bad: bool, reason: (&'static str, &'static str), message: (&str, &str)| {
        if bad { (type_, true, reason.0, message.0.to_owned()) } else { (type_, false, reason.1, message.1.to_owned()) }
    };
    let facts = [
        pick(
            "MemoryPressure",
            pressure.memory,
            ("KubeletHasInsufficientMemory", "KubeletHasSufficientMemory"),
            ("kubelet has insufficient memory available", "kubelet has sufficient memory available"),
        ),
        pick(
            "DiskPressure",
            pressure.disk,
            ("KubeletHasDiskPressure", "KubeletHasNoDiskPressure"),
            ("kubelet has disk pressure", "kubelet has no disk pressure"),
        ),
        pick(
            "PIDPressure",
            pressure.pids,
            ("KubeletHasInsufficientPID", "KubeletHasSufficientPID"),
            ("kubelet has insufficient PID available", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    facts.into_iter().map(|(type_, holds, reason, message)| condition(old, type_, holds, reason, message, now)).collect()
}

fn format_list(problems: &[String]) -> String {
    if let [one] = problems { one.clone() } else { format!("[{}]", problems.join(", ")) }
}

fn condition(old: &[NodeCondition], type_: &str, holds: bool, reason: &str, message: String, now: &Time) -> NodeCondition {
    let status = if holds { "True" } else { "False" };
    let since = old.iter().find(|condition| condition.type_ == type_ && condition.status == status);
    NodeCondition {
        type_: type_.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(message),
        last_heartbeat_time: Some(now.clone()),
        last_transition_time: since.and_then(|condition| condition.last_transition_time.clone()).or_else(|| Some(now.clone())),
    }
}

/// The largest images first, digests before tags.
pub fn images(mut list: Vec<pb::Image>) -> Vec<ContainerImage> {
    list.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.id.cmp(&b.id)));
    list.into_iter()
        .take(MAX_IMAGES)
        .map(|image| ContainerImage {
            names: Some(image.repo_digests.into_iter().chain(image.repo_tags).collect()),
            size_bytes: i64::try_from(image.size).ok(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runtime(network: bool) -> Result<pb::StatusResponse, String> {
        let condition =
            |name: &str, status: bool| pb::RuntimeCondition { r#type: name.into(), status, reason: "R".into(), message: "m".into() };
        let conditions = vec![condition("RuntimeReady", true), condition("NetworkReady", network)];
        Ok(pb::StatusResponse { status: Some(pb::RuntimeStatus { conditions }), ..Default::default() })
    }

    #[test]
    fn what_keeps_a_node_from_being_ready() {
        assert!(problems(&runtime(true), &Ok(())).is_empty());
        assert_eq!(problems(&runtime(false), &Ok(())), ["container runtime network not ready: NetworkReady=false reason:R message:m"]);
        assert_eq!(problems(&Err("x".into()), &Err("y".into())).len(), 2);
    }

    #[test]
    fn transition_times_stay() {
        let at = |second: i64| Time(jiff::Timestamp::from_second(second).unwrap());
        let first = conditions(&[], Pressure::default(), &["p".into()], &at(1));
        let second = conditions(&first, Pressure::default(), &["q".into()], &at(2));
        let third = conditions(&second, Pressure::default(), &[], &at(3));
        let ready = |list: &[NodeCondition]| list.iter().find(|c| c.type_ == "Ready").cloned().unwrap();
        assert_eq!(ready(&second).last_transition_time, Some(at(1)));
        assert_eq!(ready(&second).last_heartbeat_time, Some(at(2)));
        assert_eq!((ready(&third).status.as_str(), ready(&third).last_transition_time), ("True", Some(at(3))));
    }
}
