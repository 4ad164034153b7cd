//! Writes news as Events, on the server that the watches are on. What the server refuses is dropped, with a line in the
//! log; what it does not answer is tried a few times.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client, Error,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use tokio::sync::Mutex;

use crate::{
    model::{Kind, ObjectId, ObjectName},
    source::news::{News, Queue},
};

/// Who says it (`reportingController`).
const CONTROLLER: &str = "mesh-agent";
/// Between tries.
const WAITS: [Duration; 3] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(25),
];

/// Writes what comes until it is dropped. The next one, with another client, goes on with the same queue.
pub(super) async fn publish(client: Client, node: String, queue: Arc<Mutex<Queue>>) {
    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some(node),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    let mut queue = queue.lock().await;
    while let Some(news) = queue.recv().await {
        if let Err(error) = insist(&client, &recorder, &news).await {
            tracing::warn!(
                "Event {} on {} is not written: {error}; the agent's ClusterRole has to allow create and patch on events",
                news.reason,
                news.about
            );
        }
    }
}

async fn insist(client: &Client, recorder: &Recorder, news: &News) -> Result<(), Error> {
    for wait in WAITS {
        match write(client, recorder, news).await {
            Err(error) if !matches!(error, Error::Api(_)) => tokio::time::sleep(wait).await,
            done => return done,
        }
    }
    write(client, recorder, news).await
}

async fn write(client: &Client, recorder: &Recorder, news: &News) -> Result<(), Error> {
    let Some(reference) = reference(client, news).await? else {
        // It has been deleted meanwhile.
        return Ok(());
    };
    let kind = if news.is_warning {
        EventType::Warning
    } else {
        EventType::Normal
    };
    let event = Event {
        type_: kind,
        reason: news.reason.to_owned(),
        note: Some(news.note.clone()).filter(|note| !note.is_empty()),
        action: news.action.to_owned(),
        secondary: None,
    };
    recorder.publish(&event, &reference).await
}

/// The object as Events name it. `kubectl describe` asks for them by uid, which the store does not keep; a Node's is its
/// name, by the custom of kubelet and kube-proxy.
async fn reference(client: &Client, news: &News) -> Result<Option<ObjectReference>, Error> {
    let resource = resource(news.about.kind);
    let uid = if news.about.kind == Kind::Node {
        Some(news.about.name.name.to_string())
    } else {
        match uid(client, &news.about, &resource).await? {
            Some(uid) => Some(uid),
            None => return Ok(None),
        }
    };
    let ObjectName { namespace, name } = &news.about.name;
    Ok(Some(ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        name: Some(name.to_string()),
        namespace: Some(namespace.to_string()).filter(|namespace| !namespace.is_empty()),
        uid,
        field_path: Some(news.field.clone()).filter(|field| !field.is_empty()),
        ..ObjectReference::default()
    }))
}

async fn uid(
    client: &Client,
    about: &ObjectId,
    resource: &ApiResource,
) -> Result<Option<String>, Error> {
    let ObjectName { namespace, name } = &about.name;
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, resource);
    let found = objects.get_metadata_opt(name).await?;
    Ok(found.and_then(|object| object.metadata.uid))
}

fn resource(kind: Kind) -> ApiResource {
    let (group, plural) = match kind {
        Kind::EndpointSlice => ("discovery.k8s.io", "endpointslices"),
        Kind::Namespace => ("", "namespaces"),
        Kind::Node => ("", "nodes"),
        Kind::Pod => ("", "pods"),
        Kind::Service => ("", "services"),
    };
    let kind = GroupVersionKind::gvk(group, "v1", &kind.to_string());
    ApiResource::from_gvk_with_plural(&kind, plural)
}
