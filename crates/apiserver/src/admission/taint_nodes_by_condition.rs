//! TaintNodesByCondition: a new node is not ready until somebody says so (plugin/pkg/admission/nodetaint).

use api::StatusError;
use api::core::v1::{Node, Taint};
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin};

pub struct TaintNodesByCondition;

fn taint(node: &mut Node) {
    let not_ready = Taint { key: "node.kubernetes.io/not-ready".into(), effect: "NoSchedule".into(), ..Taint::default() };
    let taints = node.spec.get_or_insert_default().taints.get_or_insert_default();
    if !taints.iter().any(|t| t.key == not_ready.key && t.effect == not_ready.effect) {
        taints.push(not_ready);
    }
}

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if request.operation == Operation::Create
            && request.is("", "nodes")
            && let Some(node) = request.get_mut::<Node>()
        {
            taint(node);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once() {
        let mut node = Node::default();
        taint(&mut node);
        taint(&mut node);
        assert_eq!(node.spec.unwrap().taints.unwrap().len(), 1);
    }
}
