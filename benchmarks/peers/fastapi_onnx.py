"""The lean hand-made service: FastAPI and pydantic, ONNX Runtime, one committed row per request through asyncpg.

It has no idempotency, no keys, no queue, no reasons and no review. `python fastapi_onnx.py` makes its table;
`uvicorn fastapi_onnx:app --workers 2` serves. Reads model.onnx from $PEER_DIR and $DATABASE_URL.
"""

import asyncio
import json
import os
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import create_model

NAMES = ["Time", *(f"V{number}" for number in range(1, 29)), "Amount"]
Body = create_model("Body", **dict.fromkeys(NAMES, (float, ...)))
THRESHOLD = 0.5
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.path.join(os.environ["PEER_DIR"], "model.onnx"), options)
pool: asyncpg.Pool


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    global pool
    pool = await asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=4, max_size=8)
    yield
    await pool.close()


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
async def predict(body: Body) -> dict[str, object]:
    fields = body.model_dump()
    [[[score]]] = session.run(None, {"rows": np.array([[fields[name] for name in NAMES]], np.float32)})
    key = uuid.uuid4()
    insert = "INSERT INTO peer_prediction (id, fields, fraud_score) VALUES ($1, $2, $3)"
    await pool.execute(insert, key, json.dumps(fields), float(score))
    return {"id": str(key), "fraud_score": float(score), "is_fraud": bool(score >= THRESHOLD)}


async def make_table() -> None:
    connection = await asyncpg.connect(os.environ["DATABASE_URL"])
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS peer_prediction (id uuid PRIMARY KEY, "
        "created_at timestamptz NOT NULL DEFAULT now(), fields jsonb NOT NULL, fraud_score float8 NOT NULL)"
    )


if __name__ == "__main__":
    asyncio.run(make_table())
