//! The HTTP client, and what it sees.

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ClientOptions, Extensions};
use tokio_rustls::rustls;

use super::Endpoint;
use super::trouble::Trouble;
use crate::driver::tls;

/// Makes the client: one that sends every request once, straight to its host.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    place: String,
    client: reqwest::Client,
}

/// Whether a request was handed over, told by who does that.
#[derive(Clone, Debug, Default)]
pub(super) struct Sent(Arc<AtomicBool>);

impl Sent {
    pub(super) fn of_one_that_may_have_gone() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// What a request takes along.
    pub(super) fn carried(&self) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(self.clone());
        extensions
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Connector {
    pub(super) fn new(
        endpoint: &Endpoint,
        is_secure: bool,
        limit: Duration,
    ) -> Result<Self, String> {
        let settings = if is_secure {
            tls::settings(endpoint.authorities.as_deref())?
        } else {
            tls::trusting_nobody()?
        };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(settings)
            .http1_only()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            // Ends before the request does, so that it is known that nothing was sent.
            .connect_timeout(limit / 4 * 3)
            .tcp_nodelay(true)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { place: endpoint.to_string(), client })
    }
}

impl HttpConnector for Connector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = HttpClient::new(self.client.clone());
        Ok(HttpClient::new(Wire { place: self.place.clone(), plain }))
    }
}

/// The client, with every answer that is no success as a [`Trouble`].
struct Wire {
    place: String,
    plain: HttpClient,
}

/// No more of an error's text is read.
const TEXT_MAX: usize = 64 << 10;

impl Wire {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Others are those for credentials, which go elsewhere and mean something else.
        if !request.headers().contains_key("x-amz-content-sha256") {
            return self.plain.execute(request).await;
        }
        if let Some(Sent(sent)) = request.extensions().get() {
            sent.store(true, Ordering::Release);
        }
        let response = match self.plain.execute(request).await {
            Ok(response) => response,
            Err(error) => return Err(HttpError::new(error.kind(), self.trouble(&error))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.into_body().bytes().await.unwrap_or_default();
        let text = String::from_utf8_lossy(&text[..text.len().min(TEXT_MAX)]).into_owned();
        let trouble = Trouble::refused(status.as_u16(), &text);
        Err(HttpError::new(HttpErrorKind::Unknown, trouble))
    }

    fn trouble(&self, error: &HttpError) -> Trouble {
        let cause = std::error::Error::source(error);
        let below = cause.and_then(|cause| cause.downcast_ref::<reqwest::Error>());
        let place = self.place.clone();
        let why = innermost(error);
        // Its own kinds do not do: that of a request that was not sent is also that of one without an answer.
        if !below.is_some_and(reqwest::Error::is_connect) {
            Trouble::Lost { place, why }
        } else if is_about_trust(error) {
            Trouble::Distrusted { place, why }
        } else {
            Trouble::Unreachable { place, why }
        }
    }
}

/// Whether what the other end said or showed was wrong, and not only the connection.
fn is_about_trust(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<rustls::Error>() {
            return true;
        }
        // It tells the cause of what it carries, and not what it carries.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match carried {
            Some(carried) => Some(carried),
            None => error.source(),
        };
    }
    false
}

/// The words of the cause: those above it quote the address, which has the key.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    let mut source = error.source();
    while let Some(deeper) = source {
        cause = deeper;
        source = deeper.source();
    }
    cause.to_string()
}

impl HttpService for Wire {
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'b>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(self.send(request))
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("place", &self.place).finish_non_exhaustive()
    }
}
