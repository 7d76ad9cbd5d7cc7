//! SchedulingGates: a pod with gates is not tried before they are gone (KEP-3521).

use crate::framework::{Plugin, Points, Rejection};
use crate::state::PodInfo;

pub struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }

    fn points(&self) -> Points {
        Points::PRE_ENQUEUE
    }

    fn pre_enqueue(&self, pod: &PodInfo) -> Result<(), Rejection> {
        let gates: Vec<&str> =
            pod.pod.spec.iter().flat_map(|spec| spec.scheduling_gates.iter().flatten()).map(|gate| gate.name.as_str()).collect();
        if gates.is_empty() { Ok(()) } else { Err(Rejection::final_(format!("waiting for scheduling gates: [{}]", gates.join(" ")))) }
    }
}
