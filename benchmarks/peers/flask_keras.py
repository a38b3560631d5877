"""The notebook made a service: Flask's own server, `model.predict` and one SQLite commit per request.

Reads model.keras from $PEER_DIR; serves on port $PORT.
"""

import os
import sqlite3
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from flask import Flask, Response, jsonify, request

THRESHOLD = 0.5
app = Flask(__name__)
model = keras.models.load_model(os.path.join(os.environ["PEER_DIR"], "model.keras"))
database = os.path.join(os.environ["PEER_DIR"], "flask.sqlite3")
with sqlite3.connect(database) as connection:
    connection.execute(
        "CREATE TABLE IF NOT EXISTS prediction (id INTEGER PRIMARY KEY, at REAL, fields TEXT, score REAL)"
    )


@app.post("/predict")
def predict() -> Response:
    fields = request.get_json()
    score = float(model.predict(np.array([list(fields.values())], np.float32), verbose=0)[0, 0])
    with sqlite3.connect(database) as connection:
        row = (time.time(), str(fields), score)
        connection.execute("INSERT INTO prediction (at, fields, score) VALUES (?, ?, ?)", row)
    return jsonify(fraud_score=score, is_fraud=score >= THRESHOLD)


if __name__ == "__main__":
    app.run(port=int(os.environ["PORT"]))
