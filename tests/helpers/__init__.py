"""What tests of several rooms use: scripted engines and servers, results on disk, a browser."""
