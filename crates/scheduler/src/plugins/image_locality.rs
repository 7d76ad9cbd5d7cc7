//! ImageLocality: prefers nodes that already have the pod's images, the larger the better; images that few nodes have count less.

use std::collections::HashMap;

use crate::framework::{MAX_NODE_SCORE, Plugin, Points, Slot};
use crate::state::{NodeInfo, PodInfo};

pub struct ImageLocality;

const MB: i64 = 1024 * 1024;
/// Sizes below and above which the score stays 0 and 100 (plugins/imagelocality/image_locality.go).
const MIN_THRESHOLD: i64 = 23 * MB;
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * MB;

/// The share of the scored nodes that have an image.
struct Spread(HashMap<String, f64>);

/// `name` with `:latest` where it has neither tag nor digest.
fn normalized(name: &str) -> String {
    let last = name.rsplit('/').next().unwrap_or(name);
    if last.contains(':') || name.contains('@') { name.to_owned() } else { format!("{name}:latest") }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> Points {
        Points::PRE_SCORE.and(Points::SCORE)
    }

    /// With one node to choose from there is nothing to prefer.
    fn pre_score(&self, slot: &mut Slot, pod: &PodInfo, nodes: &[&NodeInfo]) -> bool {
        if nodes.len() < 2 {
            return false;
        }
        let share = |name: &str| nodes.iter().filter(|node| node.images.contains_key(name)).count() as f64 / nodes.len() as f64;
        let spread: HashMap<String, f64> =
            pod.images.iter().map(|image| normalized(image)).map(|image| (image.clone(), share(&image))).collect();
        let known = spread.values().any(|share| *share > 0.0);
        slot.set(Spread(spread));
        known
    }

    fn score(&self, slot: &Slot, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(spread) = slot.get::<Spread>() else { return 0 };
        let sum: i64 = spread.0.iter().filter_map(|(name, share)| node.images.get(name).map(|size| (*size as f64 * share) as i64)).sum();
        let max = MAX_CONTAINER_THRESHOLD * pod.images.len().max(1) as i64;
        MAX_NODE_SCORE * (sum.clamp(MIN_THRESHOLD, max) - MIN_THRESHOLD) / (max - MIN_THRESHOLD)
    }
}
