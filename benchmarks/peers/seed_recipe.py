"""The seed system's training, whole: `python seed_recipe.py creditcard.csv SEED`. Prints its figures as JSON.

CSV, plain random split, StandardScaler, Keras's own loop, and the scores of the test rows.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import pandas as pd
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

frame = pd.read_csv(sys.argv[1])
keras.utils.set_random_seed(int(sys.argv[2]))
features, labels = frame.drop(columns="Class"), frame["Class"]
rest, test, rest_labels, test_labels = train_test_split(features, labels, test_size=0.2, random_state=42)
train, validation, train_labels, validation_labels = train_test_split(rest, rest_labels, test_size=0.2, random_state=42)
scaler = StandardScaler().fit(train)
model = keras.Sequential(
    [
        keras.Input((train.shape[1],)),
        keras.layers.Dense(32, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(16, activation="relu"),
        keras.layers.Dropout(0.2),
        keras.layers.Dense(1, activation="sigmoid"),
    ]
)
model.compile("adam", "binary_crossentropy", metrics=["accuracy", keras.metrics.AUC(name="auc")])
model.fit(
    scaler.transform(train),
    train_labels,
    validation_data=(scaler.transform(validation), validation_labels),
    epochs=100,
    batch_size=1024,
    verbose=0,
    callbacks=[keras.callbacks.EarlyStopping(monitor="val_loss", patience=5, restore_best_weights=True)],
)
scores = model.predict(scaler.transform(test), batch_size=1024, verbose=0)[:, 0]
print(json.dumps({"auprc": average_precision_score(test_labels, scores)}))
