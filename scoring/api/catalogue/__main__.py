from scoring.api.catalogue import page

print(page(), end="")
