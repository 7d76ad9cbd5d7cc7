//! Many equal writes, a few at first and then more, so that a server that refuses is not flooded.

use std::future::Future;

use futures::future::join_all;

/// Runs `total` calls in batches of 1, 2, 4, ... and stops after a batch with a failure (`slowStartBatch` in pkg/controller/replicaset). Returns how many
/// succeeded and the first failure.
pub async fn slow_start<E, F: Future<Output = Result<(), E>>>(total: usize, mut call: impl FnMut(usize) -> F) -> (usize, Option<E>) {
    let (mut done, mut size) = (0, 1);
    let mut next = 0;
    while next < total {
        let end = total.min(next + size);
        let results = join_all((next..end).map(&mut call)).await;
        done += results.iter().filter(|result| result.is_ok()).count();
        if let Some(error) = results.into_iter().find_map(Result::err) {
            return (done, Some(error));
        }
        (next, size) = (end, size * 2);
    }
    (done, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stops_after_the_batch_with_a_failure() {
        let check = async |total: usize, fails_at: usize| {
            slow_start(total, async |index| if index == fails_at { Err(index) } else { Ok(()) }).await
        };
        assert_eq!(check(10, 99).await, (10, None));
        assert_eq!(check(10, 0).await, (0, Some(0)));
        assert_eq!(check(10, 3).await, (6, Some(3)), "batches 0, 1-2, 3-6");
    }
}
