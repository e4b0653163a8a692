//! A handler, a cache and a database: products from PostgreSQL, over HTTP.
//!
//! ```text
//! DATABASE_URL=postgres://me@localhost/shop CACHE_URL=redis://localhost/0 \
//!     cargo run -p larder --example axum --features json,redis
//! curl -X PUT 'localhost:3000/products/1?name=chair&cents=4900'; curl localhost:3000/products/1
//! ```
//!
//! `docs/cache.md` goes through it step by step.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use axum::{Json, Router};
use larder::cache::{
    Cache, Encoded, Guarded, JsonCodec, LoadOptions, Loaded, NoCompression, Schema, Tag, Tagged,
    TaggedCodec, Tags, Tiered, Weight, memory,
};
use larder::registry::{attach_cache, guard_options};
use larder::{BoxError, Key, SharedTier};
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, NoTls};

/// A row.
#[derive(Debug, Deserialize, Serialize)]
struct Product {
    name: String,
    cents: i64,
}

impl Weight for Product {
    fn weight(&self) -> u64 {
        self.name.weight()
    }
}

/// What handlers share.
#[derive(Clone)]
struct Shop {
    database: Arc<Client>,
    cache: Cache<Arc<Product>>,
}

/// The routes, over a database and, where there is one, a cache tier that several processes share.
pub(crate) async fn app(database: &str, shared: Option<&str>) -> Result<Router, BoxError> {
    let (database, connection) = tokio_postgres::connect(database, NoTls).await?;
    tokio::spawn(connection);
    let table = "CREATE TABLE IF NOT EXISTS product (id BIGINT PRIMARY KEY, name TEXT NOT NULL, cents BIGINT NOT NULL)";
    database.batch_execute(table).await?;
    let shop = Shop { database: Arc::new(database), cache: cache(shared)? };
    let routes =
        Router::new().route("/products/{id}", get(show).put(replace)).route("/stats", get(stats));
    Ok(routes.with_state(shop))
}

/// Values in the memory of this process; below that, in what others share.
fn cache(shared: Option<&str>) -> Result<Cache<Arc<Product>>, BoxError> {
    let near = memory::<Tagged<Arc<Product>>>(64 << 20);
    let tier = match shared {
        None => SharedTier::new(near),
        Some(uri) => {
            // Count the last number up when `Product` changes its meaning.
            let schema = Schema::new("shop", "product", 1)?;
            let far =
                Encoded::new(attach_cache(uri)?, TaggedCodec(JsonCodec), NoCompression, schema);
            let options = guard_options(uri)?.unwrap_or_default();
            let far = Guarded::builder::<Tagged<Arc<Product>>>(far).options(options).build();
            SharedTier::new(Tiered::builder(near, far).label("products").build())
        }
    };
    // Fresh for a minute; while the database is away, usable for an hour.
    let options = LoadOptions::new()
        .ttl(Duration::from_hours(1))
        .stale_after(Duration::from_mins(1))
        .jitter_percent(10)
        .hard_timeout(Duration::from_secs(5));
    Ok(Cache::builder(tier).name("products").load_options(options).build())
}

async fn show(
    State(shop): State<Shop>,
    Path(id): Path<i64>,
) -> Result<(HeaderMap, Json<Arc<Product>>), StatusCode> {
    let key = key(id)?;
    let database = Arc::clone(&shop.database);
    let load = async move || {
        let rows = database.query("SELECT name, cents FROM product WHERE id = $1", &[&id]).await?;
        let product = rows.first().map(|row| Product { name: row.get(0), cents: row.get(1) });
        let tags = Tags::new([Tag::new("products")?])?;
        Ok::<_, BoxError>(Loaded::from(product.map(Arc::new)).tags(tags))
    };
    match shop.cache.get_or_load(key.as_ref(), load).await {
        Ok(Some(hit)) => {
            let from = hit.source.map_or("database".to_owned(), |tier| shop.cache.describe(tier));
            let mut headers = HeaderMap::new();
            headers.insert("x-from", from.parse().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?);
            Ok((headers, Json(hit.value)))
        }
        Ok(None) => Err(StatusCode::NOT_FOUND),
        Err(_) => Err(StatusCode::SERVICE_UNAVAILABLE),
    }
}

async fn replace(
    State(shop): State<Shop>,
    Path(id): Path<i64>,
    Query(product): Query<Product>,
) -> Result<StatusCode, StatusCode> {
    let upsert = "INSERT INTO product VALUES ($1, $2, $3) \
                  ON CONFLICT (id) DO UPDATE SET name = $2, cents = $3";
    let written = shop.database.execute(upsert, &[&id, &product.name, &product.cents]).await;
    written.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    // After the database has it: a load that began before lands nowhere. A tier that is away takes
    // no harm from it, so its error is none of the client's.
    drop(shop.cache.remove(key(id)?.as_ref()).await);
    Ok(StatusCode::NO_CONTENT)
}

async fn stats(State(shop): State<Shop>) -> String {
    format!("{:#?}\n", shop.cache.stats())
}

fn key(id: i64) -> Result<Key, StatusCode> {
    Key::new(format!("product/{id}").as_str()).map_err(|_| StatusCode::BAD_REQUEST)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let database = std::env::var("DATABASE_URL")?;
    let shared = std::env::var("CACHE_URL").ok();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app(&database, shared.as_deref()).await?).await?;
    Ok(())
}
