//! The REST API (2016 guide, "Device Shadow RESTful API"; today's ListNamedShadowsForThing).

use std::sync::Arc;

use iotedge_model::reserved::ShadowOperation;
use iotedge_model::{Action, PrincipalKind, Protocol, ShadowName, ThingName, percent_decode};
use iotedge_ports::{
    Authorizer, BoxFuture, Decision, HttpMount, HttpRequest, HttpResponse, Method,
};
use iotedge_telemetry::log_http_denial;
use serde_json::json;

use super::{Call, ShadowService};
use crate::core::{Rejection, ShadowError};

/// Shadows below `/things/{thing}/shadow` and `/api/things/shadow/ListNamedShadowsForThing/{thing}`.
pub struct ShadowHttp {
    service: Arc<ShadowService>,
    authorizer: Arc<dyn Authorizer>,
}

/// What a path means. The thing is still percent-encoded.
#[derive(Debug, PartialEq, Eq)]
enum Route<'a> {
    Shadow(&'a str),
    List(&'a str),
}

fn route(path: &str) -> Option<Route<'_>> {
    let one = |thing: &&str| !thing.contains('/');
    match path.strip_prefix("/api/things/shadow/ListNamedShadowsForThing/") {
        Some(thing) => Some(thing).filter(one).map(Route::List),
        None => {
            let thing = path.strip_prefix("/things/")?.strip_suffix("/shadow")?;
            Some(thing).filter(one).map(Route::Shadow)
        }
    }
}

fn operation(method: Method) -> (ShadowOperation, Action) {
    match method {
        Method::Get => (ShadowOperation::Get, Action::GetThingShadow),
        Method::Post => (ShadowOperation::Update, Action::UpdateThingShadow),
        Method::Delete => (ShadowOperation::Delete, Action::DeleteThingShadow),
    }
}

fn thing_name(encoded: &str) -> Result<ThingName, ShadowError> {
    let text = percent_decode(encoded).ok_or(ShadowError::InvalidParameter(
        "the thing name is not well encoded",
    ))?;
    ThingName::new(&text).map_err(ShadowError::InvalidName)
}

impl ShadowHttp {
    /// Over the service; every request is put to the authorizer.
    pub fn new(service: Arc<ShadowService>, authorizer: Arc<dyn Authorizer>) -> Self {
        Self {
            service,
            authorizer,
        }
    }

    fn authorize(
        &self,
        request: &HttpRequest,
        action: Action,
        resource: &str,
    ) -> Result<(), ShadowError> {
        // A part of the daemon itself is never asked.
        if matches!(request.principal.kind, PrincipalKind::Service { .. }) {
            return Ok(());
        }
        let decision = self
            .authorizer
            .authorize(&request.question(action, resource));
        match decision {
            Decision::Allow => Ok(()),
            Decision::Deny(why) => {
                log_http_denial(&request.principal, request.trace, action, resource, &why);
                Err(match request.principal.is_anonymous() {
                    true => ShadowError::Unauthorized,
                    false => ShadowError::Forbidden,
                })
            }
        }
    }

    async fn answer(&self, request: &HttpRequest) -> Result<HttpResponse, Rejection> {
        match route(&request.path) {
            Some(Route::Shadow(thing)) => {
                let thing = thing_name(thing)?;
                let shadow = request
                    .query("name")
                    .map(ShadowName::new)
                    .transpose()
                    .map_err(ShadowError::InvalidName)?;
                let (operation, action) = operation(request.method);
                self.authorize(request, action, &super::key(&thing, shadow.as_ref()))?;
                let call = Call {
                    thing,
                    shadow,
                    operation,
                    payload: request.body.clone(),
                    trace: request.trace,
                    protocol: Protocol::Http,
                };
                let document = self.service.call(call).await?;
                Ok(HttpResponse::json(200, document))
            }
            Some(Route::List(_)) if request.method != Method::Get => {
                Err(ShadowError::MethodNotAllowed.into())
            }
            Some(Route::List(thing)) => {
                let thing = thing_name(thing)?;
                self.authorize(request, Action::ListNamedShadowsForThing, thing.as_str())?;
                let page = self.service.list_page(
                    &thing,
                    request.query("pageSize"),
                    request.query("nextToken"),
                )?;
                Ok(HttpResponse::json(200, page.to_string()))
            }
            None => Err(ShadowError::InvalidParameter("no such resource").into()),
        }
    }

    fn refuse(&self, rejection: &Rejection, request: &HttpRequest) -> HttpResponse {
        let body = match rejection.reason {
            // Refused before it has come to the shadows: these are the errors of the data plane.
            ShadowError::Unauthorized | ShadowError::Forbidden | ShadowError::MethodNotAllowed => {
                json!({
                    "code": rejection.reason.code(),
                    "message": rejection.reason.to_string(),
                    "traceId": request.trace.to_string(),
                })
            }
            _ => rejection.to_json(&self.service.clock.now()),
        };
        let mut response = HttpResponse::json(rejection.reason.code(), body.to_string());
        response
            .headers
            .push(("x-amzn-errortype", rejection.reason.aws_type().into()));
        response
    }
}

impl HttpMount for ShadowHttp {
    fn takes(&self, _: Method, path: &str) -> bool {
        route(path).is_some()
    }

    fn handle(&self, request: HttpRequest) -> BoxFuture<'_, HttpResponse> {
        Box::pin(async move {
            match self.answer(&request).await {
                Ok(response) => response,
                Err(rejection) => self.refuse(&rejection, &request),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_their_things() {
        assert_eq!(route("/things/a%3Ab/shadow"), Some(Route::Shadow("a%3Ab")));
        assert_eq!(
            route("/api/things/shadow/ListNamedShadowsForThing/lamp"),
            Some(Route::List("lamp"))
        );
        for path in [
            "/things/a/b/shadow",
            "/things/a",
            "/things/a/shadow/",
            "/topics/a",
            "/api/things/shadow/ListNamedShadowsForThing/a/b",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }

    #[test]
    fn names_are_decoded_before_they_are_checked() {
        assert_eq!(thing_name("a%3Ab").unwrap().as_str(), "a:b");
        for wrong in ["%", "%4", "%zz", "a%2Fb", "%ff", ""] {
            assert!(thing_name(wrong).is_err(), "{wrong}");
        }
    }
}
