from django.contrib.admin import AdminSite


class FraudsiteAdmin(AdminSite):
    site_title = "Fraudsite"
    site_header = "Fraudsite"
    index_title = "Fraud operations"
