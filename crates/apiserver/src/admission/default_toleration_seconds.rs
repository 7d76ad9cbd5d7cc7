//! DefaultTolerationSeconds: pods stay for a while on a node that is not ready or unreachable (plugin/pkg/admission/defaulttolerationseconds).

use api::StatusError;
use api::core::v1::{Pod, Toleration};
use async_trait::async_trait;

use super::{AdmissionRequest, Operation, Plugin};

pub struct DefaultTolerationSeconds {
    pub not_ready_seconds: i64,
    pub unreachable_seconds: i64,
}

fn tolerate(tolerations: &mut Vec<Toleration>, key: &str, seconds: i64) {
    let covers = |toleration: &Toleration| {
        let (own, effect) = (toleration.key.as_deref().unwrap_or_default(), toleration.effect.as_deref().unwrap_or_default());
        (own == key || own.is_empty()) && (effect == "NoExecute" || effect.is_empty())
    };
    if !tolerations.iter().any(covers) {
        tolerations.push(Toleration {
            key: Some(key.into()),
            operator: Some("Exists".into()),
            effect: Some("NoExecute".into()),
            toleration_seconds: Some(seconds),
            value: None,
        });
    }
}

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    async fn mutate(&self, request: &mut AdmissionRequest<'_>) -> Result<(), StatusError> {
        if !matches!(request.operation, Operation::Create | Operation::Update) || !request.is("", "pods") {
            return Ok(());
        }
        let Some(spec) = request.get_mut::<Pod>().and_then(|pod| pod.spec.as_mut()) else { return Ok(()) };
        let tolerations = spec.tolerations.get_or_insert_default();
        tolerate(tolerations, "node.kubernetes.io/not-ready", self.not_ready_seconds);
        tolerate(tolerations, "node.kubernetes.io/unreachable", self.unreachable_seconds);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_tolerations_count() {
        let check = |key: &str, effect: &str, expected: usize| {
            let mut list = vec![Toleration { key: Some(key.into()), effect: Some(effect.into()), ..Toleration::default() }];
            tolerate(&mut list, "a", 300);
            assert_eq!(list.len(), expected, "{key} {effect}");
        };
        check("a", "NoExecute", 1);
        check("", "", 1);
        check("a", "NoSchedule", 2);
        check("b", "NoExecute", 2);
    }
}
