//! `endpoint`: health, status and hash of each server by itself. Never lets one server answer for another.

use std::time::Duration;

use clap::{ArgMatches, Command};
use etcd::pb;

use crate::exit::{self, Failure, Outcome};
use crate::flags::{command, group, int, is_on, number, switch, text};
use crate::printer::json::{self, Object};
use crate::printer::messages::{headed, header_fields};
use crate::printer::{Answer, Known, Page, Style, Table, say_line};
use crate::{Ctl, go, kv, member};

pub fn endpoint_command() -> Command {
    let members = vec![
        command("health", "health", "Checks the healthiness of endpoints specified in `--endpoints` flag"),
        command("status", "status", "Prints out the status of endpoints specified in `--endpoints` flag").long_about(
            "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.\n\
             The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.",
        ),
        command("hashkv", "hashkv", "Prints the KV history hash for each endpoint in --endpoints")
            .arg(number("rev", "0", "maximum revision to hash (default: all revisions)")),
    ];
    let about = "Endpoint related commands";
    group("endpoint", "endpoint <subcommand>", about, members)
        .arg(switch("cluster", "use all endpoints from the cluster member list").global(true))
}

pub async fn run(ctl: &Ctl, name: &str, matches: &ArgMatches) -> Outcome {
    let endpoints = endpoints(ctl, is_on(matches, "cluster")).await?;
    match name {
        "health" => health(ctl, &endpoints).await,
        "status" => status(ctl, &endpoints).await,
        _ => hashkv(ctl, &endpoints, int(matches, "rev")).await,
    }
}

/// Those of `--endpoints`, or all client URLs of the cluster.
pub async fn endpoints(ctl: &Ctl, whole_cluster: bool) -> Outcome<Vec<String>> {
    if !whole_cluster {
        return Ok(ctl.global.endpoints.clone());
    }
    let members = member::list(ctl, &ctl.connect().await?).await;
    let members = members
        .map_err(|failure| Failure::error(format!("failed to fetch endpoints from etcd cluster member list: {}", failure.text)))?
        .members;
    Ok(members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

async fn status(ctl: &Ctl, endpoints: &[String]) -> Outcome {
    let mut found = Vec::new();
    for endpoint in endpoints {
        let channel = ctl.connect_to(endpoint).await?;
        match ctl.within(channel.maintenance().status(pb::StatusRequest {})).await {
            Ok(answer) => found.push((endpoint.clone(), answer)),
            Err(failure) => eprintln!("Failed to get the status of endpoint {endpoint} ({})", failure.text),
        }
    }
    let complete = found.len() == endpoints.len();
    ctl.printer.print(&Statuses(found))?;
    if complete { Ok(()) } else { Err(Failure::silent(exit::ERROR)) }
}

async fn hashkv(ctl: &Ctl, endpoints: &[String], revision: i64) -> Outcome {
    let mut found = Vec::new();
    let mut last = None;
    for endpoint in endpoints {
        let channel = ctl.connect_to(endpoint).await?;
        match ctl.within(channel.maintenance().hash_kv(pb::HashKvRequest { revision })).await {
            Ok(answer) => found.push((endpoint.clone(), answer)),
            Err(failure) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({})", failure.text);
                last = Some(failure);
            }
        }
    }
    ctl.printer.print(&Hashes(found))?;
    last.map_or(Ok(()), Err)
}

async fn health(ctl: &Ctl, endpoints: &[String]) -> Outcome {
    let found = futures::future::join_all(endpoints.iter().map(|endpoint| health_of(ctl, endpoint))).await;
    let healthy = found.iter().all(|health| health.error.is_empty());
    ctl.printer.print(&Healths(found))?;
    if healthy { Ok(()) } else { Err(Failure::error("unhealthy cluster")) }
}

async fn health_of(ctl: &Ctl, endpoint: &str) -> Health {
    let start = base::clock::monotonic();
    let error = match probe(ctl, endpoint).await {
        Ok(error) => error,
        Err(failure) => failure.text,
    };
    Health { endpoint: endpoint.to_owned(), took: start.elapsed(), error }
}

/// Reads any key, through consensus: that a user may not read it is an answer too. Then what is wrong with a server that does answer.
async fn probe(ctl: &Ctl, endpoint: &str) -> Outcome<String> {
    let channel = ctl.connect_to(endpoint).await?;
    let request = pb::RangeRequest { key: "health".into(), ..Default::default() };
    match kv::range(ctl, &channel, request).await {
        Err(failure) if failure.text == "etcdserver: permission denied" => return Ok(String::new()),
        answer => answer?,
    };
    let request = pb::AlarmRequest { action: pb::alarm_request::AlarmAction::Get.into(), ..Default::default() };
    let Ok(answer) = ctl.within(channel.maintenance().alarm(request)).await else { return Ok("Unable to fetch the alarm list".into()) };
    if answer.alarms.is_empty() {
        return Ok(String::new());
    }
    let names: String = answer.alarms.iter().map(|alarm| format!("{} ", alarm.alarm().as_str_name())).collect();
    Ok(format!("Active Alarm(s): {names}"))
}

struct Health {
    endpoint: String,
    took: Duration,
    /// Empty when it is well.
    error: String,
}

struct Healths(Vec<Health>);

impl Answer for Healths {
    fn simple(&self, _style: Style, page: &mut Page) -> Known {
        for Health { endpoint, took, error } in &self.0 {
            if error.is_empty() {
                let took = base::duration::format(*took);
                page.line(format!("{endpoint} is healthy: successfully committed proposal: took = {took}"));
            } else {
                eprintln!("{endpoint} is unhealthy: failed to commit proposal: {error}");
            }
        }
        true
    }

    fn json(&self, _style: Style) -> Option<String> {
        let list = self.0.iter().map(|health| {
            let object = Object::new().raw("endpoint", &json::string(&health.endpoint)).raw("health", &health.error.is_empty().to_string());
            object.raw("took", &json::string(&base::duration::format(health.took))).text("error", &health.error).end()
        });
        Some(json::array(&list.collect::<Vec<_>>()))
    }

    fn fields(&self, page: &mut Page) -> Known {
        for Health { endpoint, took, error } in &self.0 {
            page.line(format!("\"Endpoint\" : {}", go::quote(endpoint.as_bytes())));
            page.line(format!("\"Health\" : {}", error.is_empty()));
            page.line(format!("\"Took\" : {}", base::duration::format(*took)));
            page.line(format!("\"Error\" : {error}"));
            page.line("");
        }
        true
    }

    fn table(&self) -> Option<Table> {
        let rows = self.0.iter().map(|health| {
            let healthy = health.error.is_empty().to_string();
            vec![health.endpoint.clone(), healthy, base::duration::format(health.took), health.error.clone()]
        });
        Some(Table { titles: &["endpoint", "health", "took", "error"], rows: rows.collect() })
    }
}

struct Statuses(Vec<(String, pb::StatusResponse)>);

impl Answer for Statuses {
    fn json(&self, _style: Style) -> Option<String> {
        let list = self.0.iter().map(|(endpoint, status)| {
            let object =
                headed(&status.header).text("version", &status.version).number("dbSize", status.db_size).number("leader", status.leader);
            let object = object.number("raftIndex", status.raft_index).number("raftTerm", status.raft_term);
            let object = object.number("raftAppliedIndex", status.raft_applied_index).texts("errors", &status.errors);
            let object = object.number("dbSizeInUse", status.db_size_in_use).flag("isLearner", status.is_learner);
            Object::new().raw("Endpoint", &json::string(endpoint)).raw("Status", &object.end()).end()
        });
        Some(json::array(&list.collect::<Vec<_>>()))
    }

    fn fields(&self, page: &mut Page) -> Known {
        for (endpoint, status) in &self.0 {
            header_fields(&status.header, page);
            page.line(format!("\"Version\" : {}", go::quote(status.version.as_bytes())));
            page.line(format!("\"DBSize\" : {}", status.db_size));
            page.line(format!("\"Leader\" : {}", status.leader));
            page.line(format!("\"IsLearner\" : {}", status.is_learner));
            page.line(format!("\"RaftIndex\" : {}", status.raft_index));
            page.line(format!("\"RaftTerm\" : {}", status.raft_term));
            page.line(format!("\"RaftAppliedIndex\" : {}", status.raft_applied_index));
            page.line(format!("\"Errors\" : [{}]", status.errors.join(" ")));
            page.line(format!("\"Endpoint\" : {}", go::quote(endpoint.as_bytes())));
            page.line("");
        }
        true
    }

    fn table(&self) -> Option<Table> {
        let rows = self.0.iter().map(|(endpoint, status)| {
            let id = status.header.as_ref().map_or(0, |header| header.member_id);
            vec![
                endpoint.clone(),
                format!("{id:x}"),
                status.version.clone(),
                go::bytes(u64::try_from(status.db_size).unwrap_or(0)),
                (status.leader == id).to_string(),
                status.is_learner.to_string(),
                status.raft_term.to_string(),
                status.raft_index.to_string(),
                status.raft_applied_index.to_string(),
                status.errors.join(", "),
            ]
        });
        const TITLES: &[&str] =
            &["endpoint", "ID", "version", "db size", "is leader", "is learner", "raft term", "raft index", "raft applied index", "errors"];
        Some(Table { titles: TITLES, rows: rows.collect() })
    }
}

struct Hashes(Vec<(String, pb::HashKvResponse)>);

impl Answer for Hashes {
    fn json(&self, _style: Style) -> Option<String> {
        let list = self.0.iter().map(|(endpoint, answer)| {
            let object = headed(&answer.header).number("hash", answer.hash).number("compact_revision", answer.compact_revision);
            Object::new().raw("Endpoint", &json::string(endpoint)).raw("HashKV", &object.end()).end()
        });
        Some(json::array(&list.collect::<Vec<_>>()))
    }

    fn fields(&self, page: &mut Page) -> Known {
        for (endpoint, answer) in &self.0 {
            header_fields(&answer.header, page);
            page.line(format!("\"Endpoint\" : {}", go::quote(endpoint.as_bytes())));
            page.line(format!("\"Hash\" : {}", answer.hash));
            page.line("");
        }
        true
    }

    fn table(&self) -> Option<Table> {
        let rows = self.0.iter().map(|(endpoint, answer)| vec![endpoint.clone(), answer.hash.to_string()]);
        Some(Table { titles: &["endpoint", "hash"], rows: rows.collect() })
    }
}

/// `defrag`.
pub async fn defrag(ctl: &Ctl, matches: &ArgMatches) -> Outcome {
    let endpoints = endpoints(ctl, is_on(matches, "cluster")).await?;
    let mut failures = 0;
    for endpoint in endpoints {
        let channel = ctl.connect_to(&endpoint).await?;
        match ctl.within(channel.maintenance().defragment(pb::DefragmentRequest {})).await {
            Ok(_) => say_line(&format!("Finished defragmenting etcd member[{endpoint}]")),
            Err(failure) => {
                eprintln!("Failed to defragment etcd member[{endpoint}] ({})", failure.text);
                failures += 1;
            }
        }
    }
    if failures == 0 { Ok(()) } else { Err(Failure::silent(exit::ERROR)) }
}

pub fn defrag_command() -> Command {
    command("defrag", "defrag", "Defragments the storage of the etcd members with given endpoints").args([
        switch("cluster", "use all endpoints from the cluster member list"),
        text("data-dir", "", "Optional. If present, defragments a data directory not in use by etcd."),
    ])
}
