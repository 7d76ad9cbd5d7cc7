//! TaintToleration: taints that a pod does not tolerate keep it away (NoSchedule, NoExecute) or make a node worse (PreferNoSchedule).

use api::core::v1::{Node, Taint, Toleration};

use crate::framework::{ClusterEvent, Plugin, Points, Rejection, Slot, normalize};
use crate::state::{NodeInfo, PodInfo};

pub struct TaintToleration;

/// Whether the toleration covers the taint (api core/v1 toleration.go, ToleratesTaint).
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let (effect, key, value) = (text(&toleration.effect), text(&toleration.key), text(&toleration.value));
    if !effect.is_empty() && effect != taint.effect || !key.is_empty() && key != taint.key {
        return false;
    }
    let taint_value = text(&taint.value);
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => value == taint_value && !key.is_empty(),
        "Exists" => true,
        operator => match (operator, taint_value.parse::<i64>(), value.parse::<i64>()) {
            ("Lt", Ok(taint_number), Ok(number)) => taint_number < number,
            ("Gt", Ok(taint_number), Ok(number)) => taint_number > number,
            _ => false,
        },
    }
}

fn untolerated<'a>(pod: &PodInfo, taints: &'a [Taint]) -> Option<&'a Taint> {
    taints
        .iter()
        .filter(|taint| taint.effect == "NoSchedule" || taint.effect == "NoExecute")
        .find(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn points(&self) -> Points {
        Points::FILTER.and(Points::PRE_SCORE).and(Points::SCORE)
    }

    fn filter(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> Result<(), Rejection> {
        match untolerated(pod, node.taints()) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                Err(Rejection::final_(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
            }
        }
    }

    fn pre_score(&self, _slot: &mut Slot, _pod: &PodInfo, nodes: &[&NodeInfo]) -> bool {
        nodes.iter().any(|node| node.taints().iter().any(|taint| taint.effect == "PreferNoSchedule"))
    }

    fn score(&self, _slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let unwanted = |taint: &&Taint| {
            taint.effect == "PreferNoSchedule"
                && !pod
                    .tolerations
                    .iter()
                    .filter(|toleration| {
                        toleration.effect.as_deref().is_none_or(|effect| effect.is_empty() || effect == "PreferNoSchedule")
                    })
                    .any(|toleration| tolerates(toleration, taint))
        };
        node.taints().iter().filter(unwanted).count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        normalize(scores, true);
    }

    fn may_help(&self, event: &ClusterEvent<'_>, pod: &PodInfo) -> bool {
        let bearable =
            |node: &Node| untolerated(pod, node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()).is_none();
        match event {
            ClusterEvent::NodeAdded(node) => bearable(node),
            ClusterEvent::NodeUpdated { old, new } => !bearable(old) && bearable(new),
            ClusterEvent::PodLeft(_) | ClusterEvent::PodPlaced(_) => false,
        }
    }
}
